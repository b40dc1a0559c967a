#include "gateway/ingress/auth.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "gateway/ingress/listen_address.h"

namespace tandem {
namespace {

class KeyFile {
 public:
  explicit KeyFile(const std::string& text) {
    folder_ = ::testing::TempDir() + "tandem-auth-XXXXXX";
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    path_ = folder_ + "/keys";
    std::ofstream(path_) << text;
  }
  ~KeyFile() {
    unlink(path_.c_str());
    rmdir(folder_.c_str());
  }
  const std::string& path() const { return path_; }

 private:
  std::string folder_;
  std::string path_;
};

TEST(ApiKeys, WithoutKeysEverybodyMayCall) {
  EXPECT_FALSE(ApiKeys().required());
  EXPECT_TRUE(ApiKeys().Check("").ok());
}

TEST(ApiKeys, ChecksTheBearerToken) {
  const auto keys = ApiKeys::Create({"first", "second"});
  ASSERT_TRUE(keys.ok());
  EXPECT_TRUE(keys->Check("Bearer first").ok());
  EXPECT_TRUE(keys->Check("bearer  second ").ok());
  for (const char* bad : {"", "first", "Bearer", "Bearer ", "Bearer firs", "Bearer firstfirst",
                          "Bearer firsu", "Basic first", "Bearer first second"}) {
    EXPECT_TRUE(absl::IsUnauthenticated(keys->Check(bad))) << bad;
  }
}

TEST(ApiKeys, ReadsAFile) {
  const KeyFile file("# keys\n\n  alpha\nbeta\r\n");
  const auto keys = ApiKeys::ReadFile(file.path());
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_TRUE(keys->Check("Bearer alpha").ok());
  EXPECT_TRUE(keys->Check("Bearer beta").ok());
  EXPECT_FALSE(keys->Check("Bearer gamma").ok());
}

TEST(ApiKeys, RefusesFilesWithoutUsableKeys) {
  EXPECT_TRUE(absl::IsNotFound(ApiKeys::ReadFile("/nonexistent/keys").status()));
  for (const char* text : {"", "# only a comment\n", "two words\n", "tab\there\n"}) {
    const KeyFile file(text);
    const absl::Status status = ApiKeys::ReadFile(file.path()).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_NE(status.message().find("keys"), absl::string_view::npos);
  }
}

TEST(ListenAddress, ParsesTheThreeForms) {
  auto address = ParseListenAddress("127.0.0.1:80");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->port, 80);
  EXPECT_TRUE(address->loopback);
  EXPECT_EQ(address->ToString(), "127.0.0.1:80");
  address = ParseListenAddress("[::1]:0");
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_TRUE(address->loopback);
  EXPECT_EQ(address->ToString(), "[::1]:0");
  address = ParseListenAddress("unix:/run/x.sock");
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(address->ToString(), "unix:/run/x.sock");
  EXPECT_TRUE(address->loopback);
}

TEST(ListenAddress, RefusesWhatIsNoAddress) {
  for (const char* bad : {"", "8080", "127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:65536",
                          "127.0.0.1:-1", "127.0.0.1:+1", "::1:80", "unix:", "unix:x"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseListenAddress(bad).status())) << bad;
  }
}

TEST(ListenAddress, OnlyLoopbackGoesWithoutAKey) {
  for (const char* open : {"0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"}) {
    const absl::Status status =
        CheckedListenAddress("--http", open, /*has_api_key=*/false).status();
    EXPECT_TRUE(absl::IsPermissionDenied(status)) << open << " " << status;
    EXPECT_NE(status.message().find("--http"), absl::string_view::npos);
    EXPECT_NE(status.message().find("--api_key_file"), absl::string_view::npos);
    EXPECT_TRUE(CheckedListenAddress("--http", open, /*has_api_key=*/true).ok()) << open;
  }
  for (const char* local : {"127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "unix:/x"}) {
    EXPECT_TRUE(CheckedListenAddress("--http", local, /*has_api_key=*/false).ok()) << local;
  }
}

}  // namespace
}  // namespace tandem
