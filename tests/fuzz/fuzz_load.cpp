// The loader under libFuzzer.
#include <algorithm>
#include <cstdint>

#include "try_load.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try_load({reinterpret_cast<const char*>(data), size});
  return 0;
}

// Mutates the header alone and mends its length: else nearly every mutation of it ends at the first check.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t end = header_end(bytes);
  if (seed % 4 == 0 || end <= kLengthBytes) return LLVMFuzzerMutate(data, size, most);
  const std::string tail(bytes.substr(end));
  std::string header(bytes.substr(kLengthBytes, end - kLengthBytes));
  const std::size_t length = header.size(), room = most - std::min(most, kLengthBytes + tail.size());
  if (length > room) return LLVMFuzzerMutate(data, size, most);
  header.resize(room);
  header.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(header.data()), length, room));
  const std::string mutated = joined(header, tail);
  std::copy(mutated.begin(), mutated.end(), data);
  return mutated.size();
}
