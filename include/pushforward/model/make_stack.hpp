// From a flow's description to its parts, by the tables of parts.
#pragma once

#include "pushforward/base/bases.hpp"
#include "pushforward/data/supports.hpp"
#include "pushforward/layer/layers.hpp"
#include "pushforward/model/description.hpp"

namespace pushforward {

template <class Scalar>
Stack<Scalar> make_stack(const Json& description, Index most_parameters) {
  json::expect_names(description, {"dim", "context", "dtype", "base", "support", "layers"});
  StackParts<Scalar> parts;
  parts.dim = json::integer_member(description, "dim", 1);
  parts.context = json::integer_member(description, "context", 0);
  const Json& base = json::member(description, "base");
  const BaseEntry<Scalar>& base_entry = bases<Scalar>().of(base);
  parts.data_side = DataSide(supports_of(description, parts.dim, base_entry.intervals_are_boxes));

  // Layers only rename columns, so a column's domain is that of the feature that it holds on the data side.
  Place place{{}, std::vector<Domain>(static_cast<std::size_t>(parts.dim)), parts.context};
  for (Index i = 0; i < parts.dim; ++i) place.columns.push_back(i);
  parts.data_columns = place.columns;
  const Json& layer_list = json::array_member(description, "layers");
  for (const Json& layer : layer_list)
    if (const auto& entry = layers<Scalar>().of(layer); entry.columns_on_x_side)
      parts.data_columns = entry.columns_on_x_side(layer, parts.data_columns);
  for (Index i = 0; i < parts.dim; ++i)
    place.domains[static_cast<std::size_t>(parts.data_columns[static_cast<std::size_t>(i)])] =
        parts.data_side.domain(i);
  parts.latent_domains = place.domains;
  parts.base = base_entry.make(base, place.domains);

  Index left = most_parameters;
  const auto count = [&left](const std::vector<ParameterBlock>& blocks) {
    if (size_of(blocks) > left) throw std::invalid_argument("the description has more parameters than there are");
    left -= size_of(blocks);
  };
  std::size_t position = 0;
  for (const Json& layer : layer_list) {
    const auto& entry = layers<Scalar>().of(layer);
    if (auto made = entry.make(layer, place)) {
      count(made->parameters());
      parts.layers.push_back(std::move(made));
      parts.names.push_back("layers." + std::to_string(position));
    }
    if (entry.columns_on_x_side) place.columns = entry.columns_on_x_side(layer, place.columns);
    ++position;
  }
  count(parts.base->parameters());
  return Stack<Scalar>(std::move(parts));
}

template <class Scalar>
Stack<Scalar> make_stack_from_text(const std::string& description, Index most_parameters) {
  return make_stack<Scalar>(Json::parse(description), most_parameters);
}

}  // namespace pushforward
