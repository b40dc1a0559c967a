#include "lib/tls/certificates.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "lib/base/status_macros.h"
#include "lib/base/strings.h"

namespace tandem {
namespace {

constexpr std::size_t kMaxPemBytes = 1 << 20;

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(Cat("'", path, "': ", std::strerror(errno)));
  std::string text(kMaxPemBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (!file.bad() && text.size() <= kMaxPemBytes) return text;
  return absl::InvalidArgumentError(
      Cat("'", path, "': expected at most ", kMaxPemBytes, " bytes of PEM"));
}

Bio Reader(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free);
}

// The first certificate; null where there is none.
Certificate FirstCertificate(const std::string& pem) {
  const Bio bio = Reader(pem);
  return Certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr), &X509_free);
}

absl::Status CheckTime(const X509& certificate, const std::string& path) {
  if (X509_cmp_current_time(X509_get0_notBefore(&certificate)) > 0) {
    return absl::InvalidArgumentError(Cat("'", path, "': the certificate is not valid yet"));
  }
  if (X509_cmp_current_time(X509_get0_notAfter(&certificate)) < 0) {
    return absl::InvalidArgumentError(Cat("'", path, "': the certificate has expired"));
  }
  return absl::OkStatus();
}

absl::Status Check(const TlsPems& pems, const TlsFiles& files) {
  ERR_clear_error();
  const Certificate certificate = FirstCertificate(pems.certificate);
  if (certificate == nullptr) {
    return absl::InvalidArgumentError(
        Cat("'", files.certificate, "': expected a certificate as PEM, found none"));
  }
  TANDEM_RETURN_IF_ERROR(CheckTime(*certificate, files.certificate));
  const Bio bio = Reader(pems.key);
  // A key with a password is none that a service can use: nobody is asked for it.
  const auto no_password = [](char*, int, int, void*) { return -1; };
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_password, nullptr), &EVP_PKEY_free);
  if (key == nullptr) {
    return absl::InvalidArgumentError(
        Cat("'", files.key, "': expected a private key as PEM without a password, found none"));
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return absl::InvalidArgumentError(Cat(
        "'", files.key, "': this is not the key of the certificate in '", files.certificate, "'"));
  }
  if (!files.authorities.empty() && FirstCertificate(pems.authorities) == nullptr) {
    return absl::InvalidArgumentError(
        Cat("'", files.authorities, "': expected certificates as PEM, found none"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TlsPems> ReadTlsFiles(const TlsFiles& files) {
  TlsPems pems;
  if (files.certificate.empty() || files.key.empty()) {
    return absl::InvalidArgumentError("expected both a certificate and its key");
  }
  TANDEM_ASSIGN_OR_RETURN(pems.certificate, ReadPem(files.certificate));
  TANDEM_ASSIGN_OR_RETURN(pems.key, ReadPem(files.key));
  if (!files.authorities.empty()) {
    TANDEM_ASSIGN_OR_RETURN(pems.authorities, ReadPem(files.authorities));
  }
  const absl::Status status = Check(pems, files);
  ERR_clear_error();
  if (!status.ok()) return status;
  return pems;
}

absl::StatusOr<std::unique_ptr<Certificates>> Certificates::Open(const TlsFiles& files,
                                                                 absl::Duration period) {
  std::unique_ptr<Certificates> self(new Certificates(files));
  std::vector<std::string> paths = {files.certificate, files.key};
  if (!files.authorities.empty()) paths.push_back(files.authorities);
  TANDEM_ASSIGN_OR_RETURN(TlsPems pems, ReadTlsFiles(files));
  self->current_ = std::make_shared<const TlsPems>(std::move(pems));
  TANDEM_ASSIGN_OR_RETURN(FileWatch watch,
                          FileWatch::Start(
                              std::move(paths), [raw = self.get()] { raw->Reload(); }, period));
  self->watch_.emplace(std::move(watch));
  return self;
}

std::shared_ptr<const TlsPems> Certificates::current() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return current_;
}

void Certificates::Follow(std::function<void(const TlsPems& pems)> changed) {
  const std::lock_guard<std::mutex> lock(mutex_);
  changed(*current_);
  followers_.push_back(std::move(changed));
}

void Certificates::Reload() {
  absl::StatusOr<TlsPems> pems = ReadTlsFiles(files_);
  if (!pems.ok()) {
    spdlog::error("the new certificate cannot be used, the one before stays: {}",
                  std::string(pems.status().message()));
    return;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  current_ = std::make_shared<const TlsPems>(*std::move(pems));
  for (const auto& follower : followers_) follower(*current_);
  spdlog::info("certificate '{}' was read again", files_.certificate);
}

}  // namespace tandem
