#include "gateway/ingress/page/page_files.h"

#include <algorithm>
#include <array>
#include <string>

#include "lib/base/status_macros.h"

namespace tandem {
namespace {

struct File {
  std::string_view path;
  std::string_view content_type;
  std::string_view bytes;
};

constexpr unsigned char kIndex[] = {
#include "index.html.inc"
};
constexpr unsigned char kStyle[] = {
#include "style.css.inc"
};
constexpr unsigned char kApp[] = {
#include "app.js.inc"
};
constexpr unsigned char kIcon[] = {
#include "icon.svg.inc"
};

template <std::size_t kSize>
std::string_view View(const unsigned char (&bytes)[kSize]) {
  return {reinterpret_cast<const char*>(bytes), kSize};
}

const std::array<File, 4>& Files() {
  static const std::array<File, 4> files = {{
      {"/", "text/html; charset=utf-8", View(kIndex)},
      {"/page/style.css", "text/css; charset=utf-8", View(kStyle)},
      {"/page/app.js", "text/javascript; charset=utf-8", View(kApp)},
      {"/page/icon.svg", "image/svg+xml", View(kIcon)},
  }};
  return files;
}

const File* Find(std::string_view path) {
  const auto& files = Files();
  const auto found =
      std::find_if(files.begin(), files.end(), [&](const File& file) { return file.path == path; });
  return found == files.end() ? nullptr : &*found;
}

}  // namespace

std::vector<std::string_view> PagePaths() {
  std::vector<std::string_view> paths;
  for (const File& file : Files()) paths.push_back(file.path);
  return paths;
}

HttpReply PageFile(std::string_view path) {
  const File* const file = Find(path);
  TANDEM_CHECK(file != nullptr);
  HttpReply reply;
  reply.content_type = std::string(file->content_type);
  reply.headers = {
      {"Content-Security-Policy",
       "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src "
       "'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "no-referrer"},
      {"Cross-Origin-Opener-Policy", "same-origin"},
      {"Cross-Origin-Resource-Policy", "same-origin"},
      // The next version of the program has other files under the same names.
      {"Cache-Control", "no-cache"},
  };
  reply.body = std::string(file->bytes);
  return reply;
}

}  // namespace tandem
