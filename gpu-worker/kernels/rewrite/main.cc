// Part of the build: reads a SPIR-V module in the NV dialect of cooperative matrices and writes the
// KHR dialect, as numbers for an array's initialiser.
//
//   tandem_matrix_dialect IN.spv OUT.inc

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "gpu-worker/kernels/rewrite/matrix_dialect.h"

namespace {

int Fail(const std::string& what) {
  std::fprintf(stderr, "tandem_matrix_dialect: %s\n", what.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return Fail("expected two arguments: the module to read, the file to write");
  std::ifstream in(argv[1], std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  if (!in || bytes.size() % 4 != 0) return Fail(std::string(argv[1]) + ": not a SPIR-V module");
  std::vector<std::uint32_t> words(bytes.size() / 4);
  bytes.copy(reinterpret_cast<char*>(words.data()), bytes.size());
  const auto rewritten = tandem::kernels::ToKhrMatrices(words);
  if (!rewritten.ok()) {
    return Fail(std::string(argv[1]) + ": " + std::string(rewritten.status().message()));
  }
  std::ofstream out(argv[2]);
  for (const std::uint32_t word : *rewritten) out << word << ",\n";
  out.close();
  return out ? 0 : Fail(std::string(argv[2]) + " cannot be written");
}
