// The loader without libFuzzer: over the files of a folder, and over mutations of them that are the same at every run.
// A file named valid-* must load and one named hostile-* must not.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>

#include "try_load.hpp"

namespace {

using Bits = std::mt19937_64;

std::size_t below(Bits& bits, std::size_t count) { return count == 0 ? 0 : static_cast<std::size_t>(bits() % count); }

// In place of a number of the header.
constexpr const char* kNumbers[] = {"0",
                                    "1",
                                    "2",
                                    "3",
                                    "4",
                                    "8",
                                    "-1",
                                    "1.0",
                                    "0.5",
                                    "1e308",
                                    "1e999",
                                    "1e-40",
                                    "100",
                                    "2147483647",
                                    "2147483648",
                                    "4294967296",
                                    "4611686018427387904",
                                    "9223372036854775807",
                                    "9223372036854775808",
                                    "18446744073709551615",
                                    "18446744073709551616",
                                    "null",
                                    "true",
                                    "[]",
                                    "{}",
                                    "\"\""};

// In place of a value of the data.
constexpr double kValues[] = {NAN, INFINITY, -INFINITY, 0.0, -1.0, 1e300, -1e300, 1e38, 3e38, 1e-310, 1e-45, 5e-324};

void flip_bits(Bits& bits, std::string& text) {
  for (std::size_t n = 1 + below(bits, 8); n > 0 && !text.empty(); --n)
    text[below(bits, text.size())] ^= static_cast<char>(1 << below(bits, 8));
}

void replace_number(Bits& bits, std::string& header) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const std::size_t start = header.find_first_of("0123456789", below(bits, header.size()));
  if (start == std::string::npos) return;
  std::size_t end = start;
  while (end < header.size() && (is_digit(header[end]) || header[end] == '.')) ++end;
  header.replace(start, end - start, kNumbers[below(bits, std::size(kNumbers))]);
}

// A piece of JSON between two commas or brackets, which is dropped, repeated, or put elsewhere.
void move_piece(Bits& bits, std::string& header, const std::string& other) {
  const auto cut = [&](const std::string& text) { return text.find_first_of(",[]{}:", below(bits, text.size())); };
  const std::size_t from = cut(other), to = cut(header);
  if (from == std::string::npos || to == std::string::npos) return;
  const std::size_t length = std::min(other.find_first_of(",[]{}", from + 1), other.size()) - from;
  const std::string piece = other.substr(from, length);
  if (below(bits, 2) == 0) {
    header.insert(to, piece);
  } else {
    header.replace(to, std::min(header.find_first_of(",[]{}", to + 1), header.size()) - to,
                   below(bits, 2) == 0 ? piece : "");
  }
}

void replace_value(Bits& bits, std::string& data) {
  const double value = kValues[below(bits, std::size(kValues))];
  const auto narrow = static_cast<float>(std::clamp(value, -3e38, 3e38));
  const bool is_double = below(bits, 2) == 0;
  const std::size_t size = is_double ? sizeof(value) : sizeof(narrow);
  if (data.size() < size) return;
  const std::size_t at = below(bits, data.size() / size) * size;
  std::memcpy(data.data() + at, is_double ? static_cast<const void*>(&value) : &narrow, size);
}

std::string mutated(const std::vector<std::string>& valid, const std::vector<std::string>& files, Bits& bits) {
  const std::string& file = valid[below(bits, valid.size())];
  const std::string& other = files[below(bits, files.size())];
  const std::size_t end = header_end(file), other_end = header_end(other);
  std::string header = file.substr(std::min(kLengthBytes, end), end - std::min(kLengthBytes, end));
  std::string data = file.substr(end);
  for (std::size_t n = 1 + below(bits, 3); n > 0; --n) {
    switch (below(bits, 8)) {
      case 0:
        flip_bits(bits, header);
        break;
      case 1:
        flip_bits(bits, data);
        break;
      case 2:
      case 3:
        replace_number(bits, header);
        break;
      case 4:
      case 5:
        move_piece(bits, header, other.substr(0, other_end));
        break;
      case 6:
        replace_value(bits, data);
        break;
      case 7:  // other tensors
        data.replace(below(bits, data.size()), below(bits, data.size()), other.substr(other_end),
                     below(bits, other.size() - other_end), std::string::npos);
        break;
    }
  }
  std::string bytes = joined(header, data);
  switch (below(bits, 16)) {
    case 0:
      bytes.resize(below(bits, bytes.size()));
      break;
    case 1:
      bytes.append(1 + below(bits, 64), '\0');
      break;
    case 2: {
      std::string length = bytes.substr(0, kLengthBytes);
      flip_bits(bits, length);
      bytes.replace(0, kLengthBytes, length);
      break;
    }
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "drive_load FOLDER [MUTATIONS [SEED]]\n");
    return 2;
  }
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> files, valid;
  for (const auto& path : paths) {
    files.push_back(pushforward::read_file(path));
    const bool loaded = try_load(files.back());
    const std::string name = path.filename().string();
    if (name.rfind(loaded ? "hostile-" : "valid-", 0) == 0) {
      std::printf("%s: %s\n", name.c_str(), loaded ? "was loaded" : "was refused");
      return 1;
    }
    if (loaded) valid.push_back(files.back());
  }
  const std::uint64_t mutations = argc > 2 ? std::stoull(argv[2]) : 0, seed = argc > 3 ? std::stoull(argv[3]) : 0;
  std::uint64_t loaded = 0;
  for (std::uint64_t i = 0; i < mutations; ++i) {
    Bits bits(seed + i);
    loaded += try_load(mutated(valid, files, bits)) ? 1 : 0;
  }
  std::printf("%zu files; of %llu mutations %llu loaded, the others were refused\n", files.size(),
              static_cast<unsigned long long>(mutations), static_cast<unsigned long long>(loaded));
}
