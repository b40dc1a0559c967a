#pragma once

#include <memory>
#include <string>

#include "lib/tls/certificates.h"

namespace tandem {

// An authority and certificates of it, made on the spot, in a folder of their own.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name = "test authority");
  ~TestAuthority();
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  struct Wishes {
    // As in openssl.cnf.
    std::string names = "IP:127.0.0.1,DNS:localhost";
    // From now: when it begins and ends.
    long begin_seconds = -60;
    long end_seconds = 3600;
  };
  // Writes NAME.pem and NAME.key, each at once.
  TlsFiles Issue(const std::string& name) { return Issue(name, Wishes()); }
  TlsFiles Issue(const std::string& name, const Wishes& wishes);
  // The authority's own certificate.
  std::string file() const { return folder_ + "/ca.pem"; }
  std::string pem() const;
  const std::string& folder() const { return folder_; }

 private:
  struct Parts;
  std::string folder_;
  std::unique_ptr<Parts> parts_;
};

}  // namespace tandem
