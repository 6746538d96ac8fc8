// Dates in the ISO 8601 format, as a file names the ends of a column of dates.
#pragma once

#include <cstdint>
#include <string_view>

#include "pushforward/description/json.hpp"

namespace pushforward::tables {

namespace detail {

// Years from 1 to a year of the Gregorian calendar, which it does not count itself, that have a 29th of February.
inline std::int64_t leap_years_before(std::int64_t year) {
  const auto quotient = [&](std::int64_t period) {  // rounded down
    const std::int64_t last = year - 1;
    return last / period - (last % period < 0 ? 1 : 0);
  };
  return quotient(4) - quotient(100) + quotient(400);
}

// Days from the 1st of January 1970.
inline std::int64_t days_since_1970(std::int64_t year, std::int64_t month, std::int64_t day) {
  constexpr std::int64_t kBefore[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
  const bool is_leap = leap_years_before(year + 1) > leap_years_before(year);
  return 365 * (year - 1970) + leap_years_before(year) - leap_years_before(1970) + kBefore[month - 1] +
         (is_leap && month > 2 ? 1 : 0) + day - 1;
}

inline std::int64_t days_of_month(std::int64_t year, std::int64_t month) {
  return month == 12 ? 31 : days_since_1970(year, month + 1, 1) - days_since_1970(year, month, 1);
}

// Reads a text from its front.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  bool at_end() const { return text_.empty(); }

  bool skip(std::string_view any_of) {
    if (at_end() || any_of.find(text_.front()) == std::string_view::npos) return false;
    text_.remove_prefix(1);
    return true;
  }

  // A number of at least `least` and at most `most` digits; -1 if there is none.
  std::int64_t number(std::size_t least, std::size_t most) {
    std::size_t length = 0;
    std::int64_t value = 0;
    for (; length < text_.size() && length < most && text_[length] >= '0' && text_[length] <= '9'; ++length)
      value = 10 * value + (text_[length] - '0');
    if (length < least) return -1;
    text_.remove_prefix(length);
    last_length_ = length;
    return value;
  }

  std::size_t last_length() const { return last_length_; }

 private:
  std::string_view text_;
  std::size_t last_length_ = 0;
};

}  // namespace detail

// Microseconds from the start of 1970 to a date such as 2020-01-31, 2020-01-31T12:30 or 2020-01-31T12:30:15.25. Throws
// std::invalid_argument for anything else.
inline std::int64_t microseconds_of_date(std::string_view text) {
  constexpr std::int64_t kLastYear = 200'000;  // microseconds of more do not fit
  detail::Reader reader(text);
  const bool is_before = reader.skip("-");
  const std::int64_t digits = reader.number(4, 6), year = is_before ? -digits : digits;
  const std::int64_t month = reader.skip("-") ? reader.number(2, 2) : -1;
  const std::int64_t day = reader.skip("-") ? reader.number(2, 2) : -1;
  std::int64_t hour = 0, minute = 0, second = 0, fraction = 0;
  if (reader.skip("T ")) {
    hour = reader.number(2, 2);
    minute = reader.skip(":") ? reader.number(2, 2) : -1;
    if (reader.skip(":")) second = reader.number(2, 2);
    if (reader.skip(".")) {
      fraction = reader.number(1, 6);
      for (std::size_t length = reader.last_length(); length < 6; ++length) fraction *= 10;
    }
  }
  const auto within = [](std::int64_t value, std::int64_t low, std::int64_t high) {
    return value >= low && value <= high;
  };
  const bool is_date = reader.at_end() && within(digits, 0, kLastYear) && within(month, 1, 12) && day >= 1 &&
                       day <= detail::days_of_month(year, month) && within(hour, 0, 23) && within(minute, 0, 59) &&
                       within(second, 0, 59) && fraction >= 0;
  if (!is_date) throw std::invalid_argument(json::quote(text) + " is no date such as 2020-01-31");
  const std::int64_t seconds = ((detail::days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
  return seconds * 1'000'000 + fraction;
}

}  // namespace pushforward::tables
