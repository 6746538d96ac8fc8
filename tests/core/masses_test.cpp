// The laws of masses over rows of categories, without Python, for the sanitizers to watch: masses add up to 1,
// gradients are those of differences, draws have the masses, bits do not depend on threads. Prints what fails and
// returns 1.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include "expect.hpp"
#include "pushforward/masses/calls.hpp"
#include "pushforward/model/make_masses.hpp"
#include "pushforward/pushforward.hpp"

namespace {

using namespace pushforward;

const std::vector<Index> kCategories = {3, 2, 5};

// Three columns, of which the last is in an order that the network reads by three hat functions, and one of context.
Json description(const char* dtype) {
  return {{"context", 1},
          {"dtype", dtype},
          {"categories", kCategories},
          {"ordered", {0, 0, 4}},
          {"knots", {0, 0, 3}},
          {"conditioner", {{"kind", "MLP"}, {"hidden", {9}}, {"activation", "silu"}}},
          {"units", {{3, 3, 3}}}};
}

template <class Scalar>
Masses<Scalar> model() {
  auto masses = make_masses<Scalar>(description(std::is_same_v<Scalar, float> ? "float32" : "float64"), 1000);
  std::mt19937_64 bits(1);
  for (Index i = 0; i < masses.parameter_count(); ++i)
    masses.parameters()[i] = static_cast<Scalar>(2 * (static_cast<double>(bits() >> 11) * 0x1p-53) - 1);
  return masses;
}

// All rows of codes there are, one after another.
std::vector<double> all_rows() {
  std::vector<double> rows;
  for (Index a = 0; a < kCategories[0]; ++a)
    for (Index b = 0; b < kCategories[1]; ++b)
      for (Index c = 0; c < kCategories[2]; ++c)
        for (const Index code : {a, b, c}) rows.push_back(static_cast<double>(code));
  return rows;
}

Table table(const std::vector<double>& values, Index columns) {
  Table view;
  view.data = values.data();
  view.is_double = true;
  view.rows = static_cast<Index>(values.size()) / columns;
  view.columns = view.row_stride = columns;
  view.column_stride = 1;
  return view;
}

// The condition of as many rows: the same for all, if it is one.
Table condition(const std::vector<double>& value, Index rows) {
  Table view = table(value, 1);
  if (view.rows == 1) view.row_stride = 0;
  view.rows = rows;
  return view;
}

template <class Scalar>
std::vector<double> log_masses(const Masses<Scalar>& masses, const std::vector<double>& codes, int threads = 1) {
  const Table rows = table(codes, masses.columns());
  const std::vector<double> context = {0.7};
  const Table conditions = condition(context, rows.rows);
  std::vector<double> result(static_cast<std::size_t>(rows.rows));
  masses::log_prob(masses, rows, &conditions, result.data(), threads);
  return result;
}

template <class Scalar>
void sums_and_strange_codes() {
  const auto masses = model<Scalar>();
  double total = 0;
  for (const double log_mass : log_masses(masses, all_rows())) total += std::exp(log_mass);
  expect(std::abs(total - 1) < (std::is_same_v<Scalar, float> ? 1e-5 : 1e-12), "masses", "all add up to 1");
  const auto strange = log_masses(masses, {0, 0, 5, 0, 2, 0, 0.5, 0, 0, -1, 0, 0, NAN, 0, 0, INFINITY, 1, 1, 2, 1, 4});
  for (std::size_t i = 0; i < 4; ++i) expect(std::isinf(strange[i]), "masses", "what is no code has no mass");
  expect(std::isnan(strange[4]) && std::isnan(strange[5]), "masses", "what is not finite has no number");
  expect(std::isfinite(strange[6]), "masses", "other rows are not affected");
}

template <class Scalar>
void draws_and_threads() {
  const auto masses = model<Scalar>();
  constexpr Index kRows = 20'000;
  const std::vector<double> context = {0.7};
  const Table conditions = condition(context, kRows);
  std::vector<double> codes(kRows * 3), again(kRows * 3);
  masses::sample(masses, {7}, kRows, &conditions, kCategories, {codes.data(), true}, 1);
  masses::sample(masses, {7}, kRows, &conditions, kCategories, {again.data(), true}, 3);
  expect(std::memcmp(codes.data(), again.data(), codes.size() * sizeof(double)) == 0, "draws", "threads change no bit");
  const auto rows = all_rows();
  const auto expected = log_masses(masses, rows);
  std::vector<double> counts(expected.size());
  for (std::size_t row = 0; row < codes.size(); row += 3)
    counts[static_cast<std::size_t>((codes[row] * 2 + codes[row + 1]) * 5 + codes[row + 2])] += 1;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double mass = std::exp(expected[i]), error = std::sqrt(mass * (1 - mass) / kRows);
    expect(std::abs(counts[i] / kRows - mass) < 5 * error + 1e-4, "draws", "they have the masses");
  }
  masses::sample(masses, {7}, kRows, &conditions, {2, 1, 4}, {codes.data(), true}, 2);
  double most[3] = {};
  for (std::size_t i = 0; i < codes.size(); ++i) most[i % 3] = std::max(most[i % 3], codes[i]);
  expect(most[0] == 1 && most[1] == 0 && most[2] == 3, "draws", "they can be kept to the first codes");
  expect(log_masses(masses, codes, 1) == log_masses(masses, codes, 3), "masses", "threads change no bit");
}

void gradient() {
  auto masses = model<double>();
  const auto rows = all_rows();
  const Table codes = table(rows, 3);
  std::vector<double> context(static_cast<std::size_t>(codes.rows)), weights(context.size());
  for (std::size_t i = 0; i < context.size(); ++i) {
    context[i] = std::cos(static_cast<double>(i));
    weights[i] = static_cast<double>(i % 3);
  }
  const Table conditions = condition(context, codes.rows);
  Seeds seeds;
  seeds.weights = weights.data();
  std::vector<double> found(static_cast<std::size_t>(masses.parameter_count())), other(found.size());
  double norm = 0;
  masses::vjp(masses, codes, &conditions, seeds, found.data(), &norm, 2);
  double squares = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    squares += found[i] * found[i];
    constexpr double kStep = 1e-5;
    double ends[2], unused = 0;
    for (int side = 0; side < 2; ++side) {
      masses.parameters()[i] += (side == 0 ? -1 : 2) * kStep;
      ends[side] = masses::vjp(masses, codes, &conditions, seeds, other.data(), &unused, 1);
    }
    masses.parameters()[i] -= kStep;
    expect(std::abs((ends[1] - ends[0]) / (2 * kStep) - found[i]) < 1e-6, "gradient", "it is that of differences");
  }
  expect(std::abs(norm - std::sqrt(squares)) < 1e-12 * norm, "gradient", "the norm is its own");
}

template <class Change>
void refuse(const char* where, Change change) {
  Json described = description("float64");
  change(described);
  bool refused = false;
  try {
    make_masses<double>(described, 1000);
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  expect(refused, where, "a wrong description is refused");
}

void wrong_descriptions() {
  refuse("no categories", [](Json& described) { described["categories"] = Json::array(); });
  refuse("no category", [](Json& described) { described["categories"][0] = 0; });
  refuse("many categories", [](Json& described) { described["categories"][0] = 1LL << 40; });
  refuse("more ordered", [](Json& described) { described["ordered"][2] = 6; });
  refuse("more knots", [](Json& described) { described["knots"][2] = 5; });
  refuse("units", [](Json& described) { described["units"][0] = {9}; });
  refuse("another name", [](Json& described) { described["extra"] = 1; });
}

}  // namespace

int main() {
  sums_and_strange_codes<float>();
  sums_and_strange_codes<double>();
  draws_and_threads<float>();
  draws_and_threads<double>();
  gradient();
  wrong_descriptions();
  return report();
}
