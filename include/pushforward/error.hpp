// The exception that is pushforward's own; any other wrong argument is a std::invalid_argument.
#pragma once

#include <stdexcept>

namespace pushforward {

// A file that is damaged, truncated, foreign, or newer than this version.
class FileFormatError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace pushforward
