#include "tests/unit/lib/tls/test_certificates.h"

#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <filesystem>
#include <fstream>

#include "lib/base/status_macros.h"

namespace tandem {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

Key MakeKey() { return Key(EVP_EC_gen("P-256"), &EVP_PKEY_free); }

// Whole or not at all, as those who renew certificates do it.
void Write(const std::string& path, const std::string& text) {
  std::ofstream(path + ".new") << text;
  std::filesystem::rename(path + ".new", path);
}

template <typename Print>
std::string Pem(const Print& print) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), &BIO_free);
  TANDEM_CHECK(print(bio.get()) == 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<std::size_t>(size));
}

void AddExtension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  TANDEM_CHECK(extension != nullptr);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

Certificate MakeCertificate(EVP_PKEY* key, const std::string& name, long serial,
                            const TestAuthority::Wishes& wishes) {
  Certificate certificate(X509_new(), &X509_free);
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), wishes.begin_seconds);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), wishes.end_seconds);
  X509_set_pubkey(certificate.get(), key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  return certificate;
}

}  // namespace

struct TestAuthority::Parts {
  Key key{nullptr, &EVP_PKEY_free};
  Certificate certificate{nullptr, &X509_free};
  long serial = 1;
};

TestAuthority::TestAuthority(const std::string& name) : parts_(std::make_unique<Parts>()) {
  folder_ = ::testing::TempDir() + "tandem-tls-XXXXXX";
  TANDEM_CHECK(mkdtemp(folder_.data()) != nullptr);
  parts_->key = MakeKey();
  parts_->certificate = MakeCertificate(parts_->key.get(), name, parts_->serial++, {});
  X509* const own = parts_->certificate.get();
  X509_set_issuer_name(own, X509_get_subject_name(own));
  AddExtension(own, own, NID_basic_constraints, "critical,CA:TRUE");
  AddExtension(own, own, NID_key_usage, "critical,keyCertSign,cRLSign");
  X509_sign(own, parts_->key.get(), EVP_sha256());
  Write(file(), pem());
}

TestAuthority::~TestAuthority() { std::filesystem::remove_all(folder_); }

std::string TestAuthority::pem() const {
  return Pem([&](BIO* bio) { return PEM_write_bio_X509(bio, parts_->certificate.get()); });
}

TlsFiles TestAuthority::Issue(const std::string& name, const Wishes& wishes) {
  const Key key = MakeKey();
  const Certificate certificate = MakeCertificate(key.get(), name, parts_->serial++, wishes);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(parts_->certificate.get()));
  AddExtension(certificate.get(), parts_->certificate.get(), NID_subject_alt_name, wishes.names);
  X509_sign(certificate.get(), parts_->key.get(), EVP_sha256());
  const TlsFiles files{.certificate = folder_ + "/" + name + ".pem",
                       .key = folder_ + "/" + name + ".key",
                       .authorities = ""};
  Write(files.key, Pem([&](BIO* bio) {
          return PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
        }));
  Write(files.certificate,
        Pem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate.get()); }));
  return files;
}

}  // namespace tandem
