#include "lib/tls/certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <fstream>
#include <mutex>

#include "tests/unit/lib/tls/test_certificates.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(const TlsFiles& files) {
  return std::string(ReadTlsFiles(files).status().message());
}

TEST(TlsFiles, AreReadAndChecked) {
  TestAuthority authority;
  TlsFiles files = authority.Issue("server");
  files.authorities = authority.file();
  const auto pems = ReadTlsFiles(files);
  ASSERT_TRUE(pems.ok()) << pems.status();
  EXPECT_EQ(pems->authorities, authority.pem());
}

TEST(TlsFiles, ErrorsNameTheFileAndSayWhy) {
  TestAuthority authority;
  const TlsFiles good = authority.Issue("good");
  const TlsFiles other = authority.Issue("other");
  EXPECT_THAT(ErrorOf({.certificate = good.certificate, .key = other.key, .authorities = ""}),
              HasSubstr("not the key of the certificate"));
  EXPECT_THAT(ErrorOf({.certificate = good.certificate, .key = "", .authorities = ""}),
              HasSubstr("both"));
  EXPECT_THAT(ErrorOf({.certificate = good.certificate, .key = "/no/key", .authorities = ""}),
              HasSubstr("'/no/key'"));
  EXPECT_THAT(ErrorOf({.certificate = good.key, .key = good.key, .authorities = ""}),
              HasSubstr("expected a certificate"));
  EXPECT_THAT(
      ErrorOf({.certificate = good.certificate, .key = good.certificate, .authorities = ""}),
      HasSubstr("expected a private key"));
  EXPECT_THAT(ErrorOf({.certificate = good.certificate, .key = good.key, .authorities = good.key}),
              HasSubstr("expected certificates"));
  EXPECT_THAT(ErrorOf(authority.Issue("old", {.begin_seconds = -100, .end_seconds = -10})),
              HasSubstr("has expired"));
  EXPECT_THAT(ErrorOf(authority.Issue("early", {.begin_seconds = 1000, .end_seconds = 2000})),
              HasSubstr("not valid yet"));
}

class CertificatesTest : public ::testing::Test {
 protected:
  void Start(const TlsFiles& files) {
    auto opened = Certificates::Open(files, absl::Milliseconds(5));
    ASSERT_TRUE(opened.ok()) << opened.status();
    certificates_ = *std::move(opened);
    certificates_->Follow([this](const TlsPems& pems) {
      const std::lock_guard<std::mutex> lock(mutex_);
      last_ = pems.certificate;
      changed_.notify_all();
    });
  }
  bool WaitUntilNot(const std::string& before) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return last_ != before; });
  }
  TestAuthority authority_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string last_;
  std::unique_ptr<Certificates> certificates_;
};

TEST_F(CertificatesTest, ARenewedOneIsTakenAndABadOneIsNot) {
  const TlsFiles files = authority_.Issue("server");
  Start(files);
  const std::string first = certificates_->current()->certificate;
  EXPECT_EQ(last_, first);
  // Half of a renewal: key and certificate do not belong together.
  std::ofstream(files.key) << "no key";
  authority_.Issue("server", {.end_seconds = 7200});
  ASSERT_TRUE(WaitUntilNot(first));
  EXPECT_NE(certificates_->current()->certificate, first);
  EXPECT_EQ(certificates_->current()->certificate, last_);
}

}  // namespace
}  // namespace tandem
