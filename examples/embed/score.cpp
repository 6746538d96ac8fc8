// score MODEL ROWS: prints log p of each row of a binary file of float32 rows.
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "pushforward/pushforward.hpp"

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::fprintf(stderr, "score MODEL ROWS\n");
    return 2;
  }
  const auto flow = pushforward::Flow<float>::load(argv[1]);

  std::ifstream file(argv[2], std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error(std::string("cannot read ") + argv[2]);
  std::vector<float> x(static_cast<std::size_t>(file.tellg()) / sizeof(float));
  file.seekg(0).read(reinterpret_cast<char*>(x.data()), static_cast<std::streamsize>(x.size() * sizeof(float)));

  const auto rows = static_cast<pushforward::Index>(x.size()) / flow.dim();
  std::vector<double> log_prob(static_cast<std::size_t>(rows));
  flow.log_prob(x, log_prob);
  for (const double value : log_prob) std::printf("%.9g\n", value);
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
