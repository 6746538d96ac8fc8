// From a flow's description to its parts, by the tables of parts.
#pragma once

#include "pushforward/base/bases.hpp"
#include "pushforward/data/supports.hpp"
#include "pushforward/layer/layers.hpp"
#include "pushforward/model/description.hpp"
#include "pushforward/model/shape.hpp"

namespace pushforward {

// What layers read in place of the context; null if they read it themselves.
template <class Scalar>
std::optional<Network<Scalar>> context_network_of(const Json& description, Index context, Index& embedding) {
  embedding = context;
  if (!description.contains("context_network")) return std::nullopt;
  const Json& entry = json::member(description, "context_network");
  json::expect_names(entry, {"kind", "features", "network"});
  if (json::string_member(entry, "kind") != "ContextNetwork")
    throw std::invalid_argument("'context_network' is not a ContextNetwork");
  if (context == 0) throw std::invalid_argument("a context network needs a context");
  embedding = json::integer_member(entry, "features", limits::kWidth);
  const Json& network = json::member(entry, "network");
  return networks<Scalar>().of(network)(network, {context, {context}, {embedding}}, nullptr);
}

// Bytes that layers may keep of a tile, for the adjoints of a thread. Reading them back from main memory takes less
// time than computing a convolution again, so that all is kept that can be.
inline constexpr Index kMostKept = Index(1) << 28;

// The latent end of the layers: the columns that the innermost layers move, all of them if there is no split.
template <class Scalar>
Place latent_place(const Json& layer_list, Index dim, Index context, std::optional<ImageShape> shape) {
  for (std::size_t k = layer_list.size(); k-- > 0;) {
    const auto& entry = layers<Scalar>().of(layer_list[k]);
    if (!entry.shape_on_z_side) continue;
    if (!shape) throw std::invalid_argument(json::string_member(layer_list[k], "kind") + " needs a flow with a shape");
    shape = entry.shape_on_z_side(*shape);
  }
  Place place{{}, std::vector<Domain>(static_cast<std::size_t>(dim)), context, shape};
  for (Index i = 0; i < (shape ? shape->size() : dim); ++i) place.columns.push_back(i);
  return place;
}

template <class Scalar>
Stack<Scalar> make_stack(const Json& description, Index most_parameters) {
  json::expect_names(description, {"dim", "shape", "context", "context_network", "conditioner_precision", "dtype",
                                   "base", "support", "layers"});
  StackParts<Scalar> parts;
  parts.dim = json::integer_member(description, "dim", 1);
  parts.context = json::integer_member(description, "context", 0);
  parts.context_network = context_network_of<Scalar>(description, parts.context, parts.embedding);
  const Json& base = json::member(description, "base");
  const BaseEntry<Scalar>& base_entry = bases<Scalar>().of(base);
  parts.data_side = DataSide(supports_of(description, parts.dim, base_entry.intervals_are_boxes));

  // Layers only rename columns, so a column's domain is that of the feature that it holds on the data side.
  const Json& layer_list = json::array_member(description, "layers");
  Place place = latent_place<Scalar>(layer_list, parts.dim, parts.embedding, shape_of(description, parts.dim));
  Place data_place = place;
  for (const Json& layer : layer_list)
    if (const auto& entry = layers<Scalar>().of(layer); entry.to_x_side) entry.to_x_side(layer, data_place);
  parts.data_columns = std::move(data_place.columns);
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
  if (description.contains("conditioner_precision")) {
    if (json::string_member(description, "conditioner_precision") != "bfloat16")
      throw std::invalid_argument("'conditioner_precision' is not \"bfloat16\"");
    place.bfloat16 = true;
  }
  place.may_keep = kMostKept / (kTileRows * static_cast<Index>(sizeof(Scalar)));
  std::size_t position = 0;
  for (const Json& layer : layer_list) {
    const auto& entry = layers<Scalar>().of(layer);
    if (auto made = entry.make(layer, place)) {
      count(made->parameters());
      place.may_keep -= std::min(place.may_keep, made->cache_columns());
      parts.layers.push_back(std::move(made));
      parts.names.push_back("layers." + std::to_string(position));
    }
    if (entry.to_x_side) entry.to_x_side(layer, place);
    ++position;
  }
  count(parts.base->parameters());
  if (parts.context_network) count(parts.context_network->parameters());
  return Stack<Scalar>(std::move(parts));
}

template <class Scalar>
Stack<Scalar> make_stack_from_text(const std::string& description, Index most_parameters) {
  return make_stack<Scalar>(Json::parse(description), most_parameters);
}

}  // namespace pushforward
