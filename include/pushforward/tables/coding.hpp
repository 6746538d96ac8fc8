// Cells as codes and numbers, column by column.
//
// A column has a code for each of its values or atoms, one for all other values of a number, and one for a gap. The
// value of a number that is no atom is modelled by a flow, given the codes. A category's rare levels have one code
// together, and the value is then the number of the level.
#pragma once

#include "pushforward/tables/axis.hpp"

namespace pushforward::tables {

// A cell: its code, and its value where the code leaves that open; else NaN.
struct Cell {
  double code, value;
};

class Coding {
 public:
  static constexpr double kUnknown = -1;  // the code of a value that a column does not have

  // summary: what was taken from the rows of the fit. Throws std::invalid_argument when it is not one of this column.
  Coding(const TableColumn& column, const Json& summary) : gaps_(column.gaps) {
    json::expect_names(summary, {"center", "warp", "shown", "rare"});
    center_ = detail::finite_member(summary, "center");
    std::optional<Warp> warp = warp_of(summary, "warp");
    shown_ = warp_of(summary, "shown");
    rare_ = detail::finite_numbers(summary, "rare");
    if (column.is_discrete())
      read_levels(column);
    else
      read_number(column, std::move(warp));
    codes_ += gaps_ ? 1 : 0;
  }

  Index codes() const { return codes_; }
  // The line of values that are no atoms; null if there are none.
  const Axis* axis() const { return axis_ ? &*axis_ : nullptr; }
  // Whether a cell has a value of that line.
  bool is_open(const Cell& cell) const { return axis_ && cell.code == rest_; }

  Cell encode(double value) const {
    constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
    if (std::isnan(value)) return {gaps_ ? static_cast<double>(codes_ - 1) : kUnknown, kNone};
    if (levels_ > 0) {
      if (!(value >= 0 && value < static_cast<double>(levels_) && value == std::floor(value))) return {kUnknown, kNone};
      if (rare_.empty()) return {value, kNone};
      const double code = codes_of_levels_[static_cast<std::size_t>(value)];
      return {code, code == rest_ ? value : kNone};
    }
    const Index atom = line_->atom_of(value, numbers_);
    if (atom >= 0) return {static_cast<double>(atom), kNone};
    return axis_ ? Cell{rest_, value} : Cell{kUnknown, kNone};
  }

  // The log share that a rare level has of the rare ones; 0 for any other cell.
  double log_share(const Cell& cell) const {
    return !rare_.empty() && cell.code == rest_ ? std::log(rare_[static_cast<std::size_t>(cell.value)]) : 0;
  }

  // What the flows of other columns read: the number of its entries, and the entries of a cell, whose end is returned.
  // Of a number that comes later only the atoms are known.
  Index width(bool is_own, bool is_later) const {
    const Index shown = shows_number(is_own, is_later) ? (shown_ ? 2 : 1) : 0;
    return last_shown() - first_shown() + shown;
  }

  double* show(const Cell& cell, bool is_own, bool is_later, double* to) const {
    for (Index code = first_shown(); code < last_shown(); ++code)
      *to++ = cell.code == static_cast<double>(code) ? 1 : 0;
    if (!shows_number(is_own, is_later)) return to;
    const bool is_known = cell.code >= 0 && cell.code < static_cast<double>(numbers_.size());
    double number = is_known ? numbers_[static_cast<std::size_t>(cell.code)] : cell.value;
    if (std::isnan(number) || (axis_ && is_later && !is_known)) number = center_;
    *to++ = number;
    if (shown_) *to++ = std::clamp(shown_->score(number), -kMostShown, kMostShown);
    return to;
  }

 private:
  // Flows read an indicator of each code of a column with at most so many, and of its first ones. Numbers of more atoms
  // are read as numbers.
  static constexpr Index kMostIndicators = 64, kMostAtomsShown = 16;
  static constexpr double kMostShown = 4;  // what flows read of a score is no larger

  static std::optional<Warp> warp_of(const Json& summary, const char* name) {
    const Json& warp = json::member(summary, name);
    return warp.is_null() ? std::nullopt : std::optional<Warp>(warp);
  }

  void read_levels(const TableColumn& column) {
    levels_ = column.kind == "Boolean" ? 2 : static_cast<Index>(column.categories.size());
    codes_ = levels_;
    if (!rare_.empty()) read_rare(column);
    // The values of an order of numbers are numbers to flows.
    if (!column.ordered || column.categories.front().is_string()) return;
    is_number_ = true;
    for (const Json& value : column.categories) {
      if (value.is_string()) throw std::invalid_argument("an ordered category has both strings and numbers");
      numbers_.push_back(value.is_boolean() ? static_cast<double>(value.get<bool>()) : value.get<double>());
    }
  }

  void read_rare(const TableColumn& column) {
    if (column.kind != "Category" || column.ordered || rare_.size() != column.categories.size())
      throw std::invalid_argument("the rare levels are not those of the column");
    double sum = 0, common = 0;
    for (const double share : rare_) {
      if (share < 0 || share > 1) throw std::invalid_argument("a share of a rare level is not from 0 to 1");
      sum += share;
      codes_of_levels_.push_back(share > 0 ? kUnknown : common++);
    }
    rest_ = common;
    codes_ = static_cast<Index>(common) + 1;
    if (!(std::abs(sum - 1) < 1e-9) || levels_ - static_cast<Index>(common) < 2)
      throw std::invalid_argument("the shares of rare levels must be those of several, and add up to 1");
    std::replace(codes_of_levels_.begin(), codes_of_levels_.end(), kUnknown, rest_);
  }

  void read_number(const TableColumn& column, std::optional<Warp> warp) {
    if (!rare_.empty()) throw std::invalid_argument("a column of numbers has rare levels");
    is_number_ = true;
    numbers_ = column.atoms;
    rest_ = static_cast<double>(numbers_.size());
    line_.emplace(column, std::move(warp));
    if (line_->cells() > 0) axis_ = line_;
    codes_ = static_cast<Index>(numbers_.size()) + (axis_ ? 1 : 0);
  }

  bool are_atoms_numbers_only() const { return is_number_ && codes_ > kMostAtomsShown; }
  Index first_shown() const {
    return codes_ >= 2 && are_atoms_numbers_only() ? static_cast<Index>(numbers_.size()) : 0;
  }
  Index last_shown() const {
    if (codes_ < 2) return 0;
    return are_atoms_numbers_only() ? codes_ : std::min(codes_, kMostIndicators);
  }

  bool shows_number(bool is_own, bool is_later) const {
    if (!is_number_ || is_own) return false;
    const bool is_constant = codes_ == 1 && !axis_;
    return !is_constant && !(axis_ && is_later && numbers_.empty());
  }

  bool gaps_, is_number_ = false;
  Index levels_ = 0, codes_ = 0;
  double center_, rest_ = kUnknown - 1;
  std::optional<Warp> shown_;
  std::optional<Axis> line_, axis_;
  std::vector<double> rare_, codes_of_levels_;
  std::vector<double> numbers_;  // that the first codes stand for
};

}  // namespace pushforward::tables
