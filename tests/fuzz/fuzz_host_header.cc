// Host and Origin headers: any bytes are allowed or not, and what is allowed is an address, a local
// name or the one that is listed.
#include <arpa/inet.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/ingress/allowed_hosts.h"
#include "lib/base/status_macros.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const tandem::AllowedHosts hosts = [] {
    auto created = tandem::AllowedHosts::Create(tandem::ListenAddress(), {"box.example"});
    TANDEM_CHECK(created.ok());
    return *created;
  }();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string name = tandem::HostNameOf(text);
  if (hosts.Allows(text)) {
    unsigned char address[16];
    const bool numeric = inet_pton(AF_INET, name.c_str(), address) == 1 ||
                         inet_pton(AF_INET6, name.c_str(), address) == 1;
    TANDEM_CHECK(numeric || name == "localhost" || name.ends_with(".localhost") ||
                 name == "box.example");
  }
  const std::size_t half = size / 2;
  if (tandem::IsOriginOf(text.substr(0, half), text.substr(half))) {
    TANDEM_CHECK(text.starts_with("http"));
  }
  return 0;
}
