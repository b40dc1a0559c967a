#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace tandem {

// A folder of its own that goes away with the object.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline constexpr char kGoldenData[] = "tests/golden/data";

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& bytes);
// Copies the files of a folder that have these names.
void CopyFiles(const std::string& from, const std::string& to,
               const std::vector<std::string>& names);

// A safetensors file by parts, to be broken one at a time.
struct SafetensorsTensor {
  std::string dtype;
  std::string shape;  // "[2,3]"
  std::string data;
};
std::string SafetensorsBytes(const std::map<std::string, SafetensorsTensor>& tensors);
// Header text and data -> file.
std::string SafetensorsFile(const std::string& header, const std::string& data);
// The header's text of a whole file, and the file with another one in its place.
std::string SafetensorsHeaderOf(const std::string& file);
std::string WithSafetensorsHeader(const std::string& file, const std::string& header);

}  // namespace tandem
