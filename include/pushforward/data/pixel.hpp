// The support Pixel: whole numbers 0, ..., levels - 1, each of which stands for its cell, the numbers from it to the
// next. A whole number of a table becomes a point of its cell by uniform noise (Theis, van den Oord, Bethge 2016); any
// other number is a point already. A point x is on the line by x = levels (s(y) - alpha) / (1 - 2 alpha) with the
// logistic function s (Dinh, Sohl-Dickstein, Bengio 2017, section 4.1).
#pragma once

#include <cstring>
#include <optional>

#include "pushforward/base/noise.hpp"
#include "pushforward/data/support.hpp"
#include "pushforward/description/json.hpp"

namespace pushforward {

class Logistic final : public Bijection {
 public:
  Logistic(double levels, double alpha)
      : levels_(levels), alpha_(alpha), part_((1 - 2 * alpha) / levels), log_part_(std::log(part_)) {}

  double value(double y) const override {
    const double tail = (1 / (1 + std::exp(std::abs(y))) - alpha_) / part_;
    return y < 0 ? tail : levels_ - tail;
  }
  double inverse(double x) const override { return std::log(share(x) / share(levels_ - x)); }
  // log s'(y) = -|y| - 2 log(1 + exp(-|y|))
  double log_slope(double y) const override {
    return -std::abs(y) - 2 * std::log1p(std::exp(-std::abs(y))) - log_part_;
  }
  double slope(double y) const override { return std::exp(log_slope(y)); }
  double bend(double y) const override { return -std::tanh(0.5 * y); }
  double above_low(double distance) const override { return inverse(distance); }
  double below_high(double distance) const override { return -inverse(distance); }
  double rough_slope(double x) const override { return share(x) * share(levels_ - x) / part_; }
  // No whole number is brought to an end, and no other number is one.
  bool low_is_infinite() const override { return false; }
  bool high_is_infinite() const override { return false; }

 private:
  double share(double x) const { return alpha_ + part_ * x; }

  double levels_, alpha_, part_, log_part_;
};

inline Support make_pixel(const Json& description, bool /*boxed*/) {
  json::expect_names(description, {"kind", "levels", "alpha"});
  const auto levels = static_cast<double>(json::integer_member(description, "levels", limits::kLevels));
  const double alpha = json::number_member(description, "alpha", limits::kAlpha);
  Support support{0, levels, false, Domain::line, std::make_shared<Logistic>(levels, alpha)};
  support.has_high = false;
  support.has_cells = true;
  return support;
}

// Where the whole numbers of a tile's rows lie in their cells. It depends on a key, on the row's own numbers and on the
// feature, and so neither on other rows nor on where a row stands.
class CellNoise {
 public:
  explicit CellNoise(std::uint64_t key) : key_(key) { std::fill_n(numbers_, kTileRows, 0); }

  // Mixes a feature of a row into the row's number, by the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
  void add(Index row, double value) {
    value += 0.0;  // makes one zero of two
    std::uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    std::uint64_t& number = numbers_[row];
    number = number * 0x9E3779B97F4A7C15u + bits;
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9u;
    number = (number ^ (number >> 27)) * 0x94D049BB133111EBu;
    number ^= number >> 31;
  }

  // Goes on to a feature.
  void begin(Index feature) {
    const Index stream = feature / 4;
    if (stream != stream_) words_.emplace(key_, numbers_, static_cast<std::uint32_t>(stream), kTileRows);
    stream_ = stream;
    word_ = words_->word[feature % 4];
  }

  // The point that a value of that feature stands for.
  double point(Index row, double value) const {
    return value == std::floor(value) ? value + (static_cast<double>(word_[row]) + 0.5) / 4294967296.0 : value;
  }

 private:
  std::uint64_t key_;
  alignas(64) std::uint64_t numbers_[kTileRows];
  std::optional<detail::Words> words_;  // of four features
  Index stream_ = -1;
  const std::uint32_t* word_ = nullptr;
};

}  // namespace pushforward
