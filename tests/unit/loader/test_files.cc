#include "tests/unit/loader/test_files.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "lib/base/status_macros.h"

namespace tandem {

TempFolder::TempFolder() {
  path_ = (std::filesystem::temp_directory_path() / "tandem-XXXXXX").string();
  TANDEM_CHECK(::mkdtemp(path_.data()) != nullptr);
}

TempFolder::~TempFolder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  TANDEM_CHECK(in.good());
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  TANDEM_CHECK(out.good());
}

void CopyFiles(const std::string& from, const std::string& to,
               const std::vector<std::string>& names) {
  for (const std::string& name : names) WriteFile(to + "/" + name, ReadFile(from + "/" + name));
}

std::string SafetensorsFile(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + data;
}

std::string SafetensorsBytes(const std::map<std::string, SafetensorsTensor>& tensors) {
  std::string header = "{";
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    if (header.size() > 1) header += ",";
    header += "\"" + name + "\":{\"dtype\":\"" + tensor.dtype + "\",\"shape\":" + tensor.shape +
              ",\"data_offsets\":[" + std::to_string(data.size()) + "," +
              std::to_string(data.size() + tensor.data.size()) + "]}";
    data += tensor.data;
  }
  return SafetensorsFile(header + "}", data);
}

std::string SafetensorsHeaderOf(const std::string& file) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  return file.substr(8, length);
}

std::string WithSafetensorsHeader(const std::string& file, const std::string& header) {
  return SafetensorsFile(header, file.substr(8 + SafetensorsHeaderOf(file).size()));
}

}  // namespace tandem
