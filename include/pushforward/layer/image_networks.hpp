// The table of convolutional networks, which may depend on the transform whose parameters they compute.
#pragma once

#include "pushforward/network/image_network.hpp"
#include "pushforward/network/networks.hpp"
#include "pushforward/network/symmetric_network.hpp"
#include "pushforward/transform/transform.hpp"

namespace pushforward {

inline Padding padding_of(const Json& description) {
  const auto name = json::string_member(description, "padding");
  if (name == "zero") return Padding::zero;
  if (name == "circular") return Padding::circular;
  throw std::invalid_argument("unknown padding " + json::quote(name));
}

// A kernel's middle is the pixel itself, so that its extent is odd.
inline void expect_odd(Index kernel) {
  if (kernel % 2 == 0) throw std::invalid_argument("a kernel's extent must be odd");
}

// Which outputs of a pixel are odd: those of its features, one after the other.
template <class Scalar>
std::vector<bool> odd_outputs(const ImagePorts& ports, const Transform<Scalar>& transform) {
  const std::vector<bool> one = transform.odd_parameters();
  std::vector<bool> odd;
  for (Index i = 0; i < ports.output_channels; ++i) odd.push_back(one[static_cast<std::size_t>(i) % one.size()]);
  return odd;
}

template <class Scalar>
std::unique_ptr<Conditioner<Scalar>> make_symmetric(const Json& description, const ImagePorts& ports, Index hidden,
                                                    const std::vector<Index>& kernels,
                                                    const Transform<Scalar>& transform) {
  if (activation_of(description) != Activation::tanh)
    throw std::invalid_argument("a symmetric network needs the activation tanh, which is odd");
  if (kernels.size() < 2) throw std::invalid_argument("a symmetric network needs a hidden layer");
  if (ports.context > 0) throw std::invalid_argument("a symmetric network reads no context");
  return std::make_unique<SymmetricNetwork<Scalar>>(ports, hidden, kernels, padding_of(description),
                                                    odd_outputs(ports, transform));
}

template <class Scalar>
std::unique_ptr<Conditioner<Scalar>> make_conv_net(const Json& description, const ImagePorts& ports,
                                                   const Transform<Scalar>& transform) {
  json::expect_names(description, {"kind", "hidden", "layers", "kernel", "padding", "activation", "symmetric"});
  const Index hidden = json::integer_member(description, "hidden", limits::kChannels);
  const Index layers = json::integer_member(description, "layers", limits::kConvolutions);
  std::vector<Index> kernels(static_cast<std::size_t>(layers + 1));
  if (json::member(description, "kernel").is_array())
    kernels = json::integers_member(description, "kernel", limits::kKernel.low, limits::kKernel.high);
  else
    std::fill(kernels.begin(), kernels.end(), json::integer_member(description, "kernel", limits::kKernel));
  if (static_cast<Index>(kernels.size()) != layers + 1)
    throw std::invalid_argument("a convolutional network needs a kernel for each layer and for the last one");
  for (const Index kernel : kernels) expect_odd(kernel);
  if (json::boolean_member(description, "symmetric"))
    return make_symmetric<Scalar>(description, ports, hidden, kernels, transform);
  return ImageNetwork<Scalar>::conv_net(ports, hidden, kernels, {padding_of(description), activation_of(description)});
}

template <class Scalar>
std::unique_ptr<Conditioner<Scalar>> make_conv_resnet(const Json& description, const ImagePorts& ports,
                                                      const Transform<Scalar>&) {
  json::expect_names(description, {"kind", "hidden", "blocks", "kernel", "padding", "activation", "dropout"});
  const Index kernel = json::integer_member(description, "kernel", limits::kKernel);
  expect_odd(kernel);
  return ImageNetwork<Scalar>::conv_resnet(ports, json::integer_member(description, "hidden", limits::kChannels),
                                           json::integer_member(description, "blocks", limits::kConvolutions), kernel,
                                           {padding_of(description), activation_of(description),
                                            json::number_member(description, "dropout", limits::kDropout)});
}

template <class Scalar>
using MakeImageNetwork = std::unique_ptr<Conditioner<Scalar>> (*)(const Json&, const ImagePorts&,
                                                                  const Transform<Scalar>&);

template <class Scalar>
Registry<MakeImageNetwork<Scalar>>& image_networks() {
  static Registry<MakeImageNetwork<Scalar>> table(
      "conditioner", {{"ConvNet", &make_conv_net<Scalar>}, {"ConvResNet", &make_conv_resnet<Scalar>}});
  return table;
}

}  // namespace pushforward
