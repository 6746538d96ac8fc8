// Strict reading of JSON: every value is checked before it is used, and nothing is converted silently. Errors are
// std::invalid_argument and name the member.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "pushforward/description/limits.hpp"

namespace pushforward {

using Json = nlohmann::json;

namespace json {

// The deepest file has seven levels. A hostile text must not build a tree of any depth.
inline constexpr std::size_t kMaxDepth = 64;

// A name from a file for a message: shortened, and without control characters.
inline std::string quote(std::string_view name) {
  constexpr std::size_t kLongest = 80;
  std::string shown(name.substr(0, kLongest));
  std::replace_if(shown.begin(), shown.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return "'" + shown + (name.size() > kLongest ? "...'" : "'");
}

// Finds what the parser accepts but this reader does not: a name that occurs twice, and deep nesting. (The parser's own
// callback takes time that grows with the square of an object's size.)
class Check final : public nlohmann::json_sax<Json> {
 public:
  explicit Check(const std::string& what) : what_(what) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override { return leave(); }
  bool start_object(std::size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool key(string_t& name) override {
    if (!names_.back().insert(name).second) throw std::invalid_argument(what_ + " holds " + quote(name) + " twice");
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception&) override { return false; }

 private:
  bool enter() {
    if (names_.size() == kMaxDepth) throw std::invalid_argument(what_ + " is nested too deep");
    names_.emplace_back();
    return true;
  }
  bool leave() {
    names_.pop_back();
    return true;
  }

  const std::string& what_;
  std::vector<std::set<std::string>> names_;  // of each open object; empty for an array
};

inline Json parse(std::string_view text, const std::string& what) {
  // The parser would read a zero byte as the end of the text.
  if (text.find('\0') != std::string_view::npos) throw std::invalid_argument(what + " holds a zero byte");
  Check check(what);
  if (!Json::sax_parse(text.begin(), text.end(), &check)) throw std::invalid_argument(what + " is not valid JSON");
  return Json::parse(text.begin(), text.end());
}

inline const Json& member(const Json& object, const char* name) {
  const auto found = object.find(name);  // the end if `object` is not an object
  if (found == object.end()) throw std::invalid_argument(std::string("'") + name + "' is missing");
  return *found;
}

// Every member must have one of these names: an unknown one could change the meaning of the others.
inline void expect_names(const Json& object, std::initializer_list<const char*> names) {
  for (const auto& entry : object.items())
    if (std::find(names.begin(), names.end(), entry.key()) == names.end())
      throw std::invalid_argument("unknown " + quote(entry.key()));
}

inline Index integer(const Json& value, const char* name, Index low, Index high = std::numeric_limits<Index>::max()) {
  constexpr auto kLargest = static_cast<std::uint64_t>(std::numeric_limits<Index>::max());
  const bool fits = value.is_number_unsigned() ? value.get<std::uint64_t>() <= kLargest : value.is_number_integer();
  if (fits && value.get<Index>() >= low && value.get<Index>() <= high) return value.get<Index>();
  throw std::invalid_argument(std::string("'") + name + "' is not an integer in its range");
}

inline Index integer_member(const Json& object, const char* name, Index low) {
  return integer(member(object, name), name, low);
}
inline Index integer_member(const Json& object, const char* name, limits::Range<Index> range) {
  return integer(member(object, name), name, range.low, range.high);
}

inline double number_member(const Json& object, const char* name, limits::Range<double> range) {
  const Json& value = member(object, name);
  if (value.is_number() && value.get<double>() >= range.low && value.get<double>() <= range.high)
    return value.get<double>();
  throw std::invalid_argument(std::string("'") + name + "' is not a number in its range");
}

inline std::string string_member(const Json& object, const char* name) {
  const Json& value = member(object, name);
  if (!value.is_string()) throw std::invalid_argument(std::string("'") + name + "' is not a string");
  return value.get<std::string>();
}

inline const Json& array_member(const Json& object, const char* name) {
  const Json& value = member(object, name);
  if (!value.is_array()) throw std::invalid_argument(std::string("'") + name + "' is not an array");
  return value;
}

inline std::vector<Index> integers(const Json& array, const char* name, Index low, Index high) {
  if (!array.is_array()) throw std::invalid_argument(std::string("'") + name + "' is not an array");
  std::vector<Index> values;
  for (const Json& value : array) values.push_back(integer(value, name, low, high));
  return values;
}

inline std::vector<Index> integers_member(const Json& object, const char* name, Index low, Index high) {
  return integers(member(object, name), name, low, high);
}

inline bool boolean_member(const Json& object, const char* name) {
  const Json& value = member(object, name);
  if (!value.is_boolean()) throw std::invalid_argument(std::string("'") + name + "' is not a boolean");
  return value.get<bool>();
}

inline std::vector<bool> booleans_member(const Json& object, const char* name) {
  std::vector<bool> values;
  for (const Json& value : array_member(object, name)) {
    if (!value.is_boolean()) throw std::invalid_argument(std::string("'") + name + "' is not an array of booleans");
    values.push_back(value.get<bool>());
  }
  return values;
}

}  // namespace json
}  // namespace pushforward
