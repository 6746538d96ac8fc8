// What a column of a table holds, and its description in a file.
#pragma once

#include <cmath>
#include <limits>

#include "pushforward/tables/dates.hpp"

namespace pushforward {

struct TableColumn {
  std::string name;
  // "Real", "Positive", "Interval", "Circle", "Above", "Below", "Integer", "Category", "Boolean" or "Date".
  std::string kind;
  // Of a category: its values, strings, numbers or booleans; a row holds the index of one of them.
  std::vector<Json> categories;
  bool ordered = false;
  // The least and the greatest value of a number or a date; infinite where there is none.
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
  // Of a date: "D", "s", "ms" or "us"; a row holds how many of them have passed since 1970.
  std::string unit;
  // Single values of a number that have masses of their own; and the grid of a rounded one, 0 if it is not.
  std::vector<double> atoms;
  double step = 0;
  // Whether cells may be missing.
  bool gaps = false;

  bool is_discrete() const { return kind == "Category" || kind == "Boolean"; }
  // Whether values have masses, rather than a density.
  bool has_masses() const { return kind == "Integer" || kind == "Date"; }
};

namespace tables {

namespace detail {

inline double finite_member(const Json& object, const char* name) {
  constexpr double kMost = std::numeric_limits<double>::max();
  return json::number_member(object, name, {-kMost, kMost});
}

// A list of finite numbers.
inline std::vector<double> finite_numbers(const Json& object, const char* name) {
  std::vector<double> values;
  for (const Json& value : json::array_member(object, name)) {
    if (!value.is_number() || !std::isfinite(value.get<double>()))
      throw std::invalid_argument(std::string("'") + name + "' is not a list of finite numbers");
    values.push_back(value.get<double>());
  }
  return values;
}

inline void expect_increasing(const std::vector<double>& values, const char* name) {
  for (std::size_t i = 1; i < values.size(); ++i)
    if (!(values[i - 1] < values[i])) throw std::invalid_argument(std::string("'") + name + "' is not increasing");
}

inline void read_categories(const Json& kind, TableColumn& column) {
  json::expect_names(kind, {"kind", "values", "ordered"});
  std::set<Json> different;
  for (const Json& value : json::array_member(kind, "values")) {
    if (!value.is_string() && !value.is_boolean() && !(value.is_number() && std::isfinite(value.get<double>())))
      throw std::invalid_argument("a category has a value that is no string, number or boolean");
    if (!different.insert(value).second) throw std::invalid_argument("a category has the same value twice");
    column.categories.push_back(value);
  }
  if (column.categories.empty() || column.categories.size() > static_cast<std::size_t>(limits::kCategories.high - 2))
    throw std::invalid_argument("a category has no values, or too many");
  column.ordered = json::boolean_member(kind, "ordered");
}

inline void read_whole_ends(const Json& kind, TableColumn& column) {
  constexpr Index kMost = Index(1) << 53;  // every whole number up to this is a double
  json::expect_names(kind, {"kind", "low", "high"});
  column.low = static_cast<double>(json::integer(json::member(kind, "low"), "low", -kMost, kMost));
  column.high = static_cast<double>(json::integer(json::member(kind, "high"), "high", -kMost, kMost));
  column.step = 1;
  if (!(column.low < column.high)) throw std::invalid_argument("an Integer needs low < high");
}

inline double units_of_date(const Json& kind, const char* name, std::int64_t unit) {
  const std::int64_t stamp = microseconds_of_date(json::string_member(kind, name));
  if (stamp % unit != 0) throw std::invalid_argument(std::string("a Date's '") + name + "' is not in whole units");
  return static_cast<double>(stamp / unit);
}

inline void read_dates(const Json& kind, TableColumn& column) {
  json::expect_names(kind, {"kind", "unit", "low", "high"});
  column.unit = json::string_member(kind, "unit");
  column.step = 1;
  const std::int64_t unit = column.unit == "D"    ? 86'400'000'000
                            : column.unit == "s"  ? 1'000'000
                            : column.unit == "ms" ? 1000
                            : column.unit == "us" ? 1
                                                  : 0;
  if (unit == 0) throw std::invalid_argument("unknown unit " + json::quote(column.unit) + " of a Date");
  if (json::member(kind, "low").is_null() && json::member(kind, "high").is_null()) return;
  column.low = units_of_date(kind, "low", unit);
  column.high = units_of_date(kind, "high", unit);
  if (!(column.low <= column.high)) throw std::invalid_argument("a Date needs low <= high");
}

inline void read_ends(const Json& kind, TableColumn& column) {
  const bool has_low = column.kind != "Below", has_high = column.kind != "Above";
  if (has_low && has_high)
    json::expect_names(kind, {"kind", "low", "high"});
  else
    json::expect_names(kind, {"kind", has_low ? "low" : "high"});
  if (has_low) column.low = finite_member(kind, "low");
  if (has_high) column.high = finite_member(kind, "high");
  if (has_low && has_high && !(column.low < column.high && std::isfinite(column.high - column.low)))
    throw std::invalid_argument("an " + column.kind + " needs low < high");
}

inline void read_kind(const Json& kind, TableColumn& column) {
  column.kind = json::string_member(kind, "kind");
  if (column.kind == "Category") return read_categories(kind, column);
  if (column.kind == "Integer") return read_whole_ends(kind, column);
  if (column.kind == "Date") return read_dates(kind, column);
  if (column.kind == "Interval" || column.kind == "Circle" || column.kind == "Above" || column.kind == "Below")
    return read_ends(kind, column);
  if (column.kind != "Real" && column.kind != "Positive" && column.kind != "Boolean")
    throw std::invalid_argument("unknown kind " + json::quote(column.kind));
  json::expect_names(kind, {"kind"});
  if (column.kind == "Positive") column.low = 0;
}

}  // namespace detail

// Throws std::invalid_argument when the description is not one of a column.
inline TableColumn read_column(const Json& description) {
  json::expect_names(description, {"name", "kind", "atoms", "step", "gaps", "dtype"});
  TableColumn column;
  column.name = json::string_member(description, "name");
  json::string_member(description, "dtype");
  detail::read_kind(json::member(description, "kind"), column);
  const double step = json::number_member(description, "step", {0, std::numeric_limits<double>::max()});
  column.atoms = detail::finite_numbers(description, "atoms");
  detail::expect_increasing(column.atoms, "atoms");
  column.gaps = json::boolean_member(description, "gaps");
  if ((column.is_discrete() && (step > 0 || !column.atoms.empty())) || (column.kind == "Circle" && step > 0))
    throw std::invalid_argument("a " + column.kind + " has a step or atoms");
  if (!column.has_masses()) column.step = step;
  for (const double atom : column.atoms)
    if (column.has_masses() && atom != std::nearbyint(atom))
      throw std::invalid_argument("an atom of whole numbers is no whole number");
  return column;
}

}  // namespace tables
}  // namespace pushforward
