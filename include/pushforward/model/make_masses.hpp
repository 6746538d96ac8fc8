// A mass over rows of categories from its description.
#pragma once

#include "pushforward/masses/masses.hpp"
#include "pushforward/network/networks.hpp"

namespace pushforward {

// Throws std::invalid_argument when the description is not one of masses, or has more than `most_parameters`: that is
// checked before they are allocated, since a file may name any number.
template <class Scalar>
Masses<Scalar> make_masses(const Json& description, Index most_parameters) {
  json::expect_names(description, {"context", "dtype", "categories", "ordered", "knots", "conditioner", "units"});
  constexpr auto kMost = limits::kCategories.high;
  const auto counts = json::integers_member(description, "categories", limits::kCategories.low, kMost);
  const auto ordered = json::integers_member(description, "ordered", 0, kMost);
  const auto knots = json::integers_member(description, "knots", 0, kMost);
  if (counts.empty() || counts.size() > static_cast<std::size_t>(kMost))
    throw std::invalid_argument("there are no columns of categories, or too many");
  if (ordered.size() != counts.size() || knots.size() != counts.size())
    throw std::invalid_argument("each column of categories needs its ordered codes and its knots");
  std::vector<Category> categories;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (ordered[i] > counts[i] || knots[i] > ordered[i] || (knots[i] == 0) != (ordered[i] == 0))
      throw std::invalid_argument("a column has more knots than ordered codes, or more of those than categories");
    categories.push_back({counts[i], ordered[i], knots[i]});
  }
  const Index context = json::integer(json::member(description, "context"), "context", 0, limits::kWidth.high);
  const HiddenUnits units = hidden_units(description, counts.size());
  const Json& conditioner = json::member(description, "conditioner");
  Masses<Scalar> model(std::move(categories), context, [&](const NetworkPorts& ports) {
    return networks<Scalar>().of(conditioner)(conditioner, ports, &units);
  });
  if (size_of(model.parameter_blocks()) > most_parameters)
    throw std::invalid_argument("the description has more parameters than there are");
  model.allocate();
  return model;
}

}  // namespace pushforward
