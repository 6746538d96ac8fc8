// The C++ side of test_embed.py.
//   embed float|double run MODEL X Z CONTEXT|- FOLDER   writes what every call returns, raw, to files of the folder
//   embed float|double ensemble MODEL X CONTEXT|- FOLDER  the same of an ensemble, with samples
//   embed float|double describe MODEL                   prints names and supports
//   embed float|double load MODEL ...                   prints for each file "loaded", or the exception
//   embed float|double load-ensemble MODEL ...          the same, of ensembles
//   embed double table MODEL ROWS FOLDER                prints the columns of a table's model, writes densities of rows
//   embed double load-table MODEL ...                   prints as load does, of the models of tables
#include <cstdio>
#include <cstring>
#include <fstream>

#include "pushforward/pushforward.hpp"
#include "pushforward/table_flow.hpp"

namespace {

template <class T>
std::vector<T> read(const std::string& path) {
  std::vector<T> values(std::filesystem::file_size(path) / sizeof(T));
  std::ifstream(path, std::ios::binary)
      .read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
  return values;
}

template <class T>
void write(const std::string& path, const std::vector<T>& values) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
}

template <class Scalar>
void run(char** arguments) {
  const auto flow = pushforward::Flow<Scalar>::load(arguments[0]);
  const auto x = read<Scalar>(arguments[1]), z = read<Scalar>(arguments[2]);
  const bool conditional = std::strcmp(arguments[3], "-") != 0;
  const auto context = conditional ? read<Scalar>(arguments[3]) : std::vector<Scalar>();
  const std::string folder = std::string(arguments[4]) + "/";
  const auto rows = static_cast<pushforward::Index>(x.size()) / flow.dim();
  const Scalar* conditions = conditional ? context.data() : nullptr;

  std::vector<double> density(static_cast<std::size_t>(rows));
  flow.log_prob(x, density, context);
  write(folder + "log_prob", density);

  std::vector<Scalar> point(x.size());
  flow.log_prob_and_grad(x, density, point, context);
  write(folder + "log_prob_beside_grad", density);
  write(folder + "grad", point);

  flow.inverse(x.data(), rows, point.data(), density.data(), conditions);
  write(folder + "inverse", point);
  write(folder + "inverse_log_det", density);

  flow.forward(z.data(), rows, point.data(), density.data(), conditions);
  write(folder + "forward", point);
  write(folder + "forward_log_det", density);

  std::vector<Scalar> gradient(static_cast<std::size_t>(flow.parameter_count()));
  write(folder + "loss", std::vector<double>{flow.loss_and_grad(x.data(), rows, gradient.data(), conditions)});
  write(folder + "gradient", gradient);
}

// Prints the names of the columns and of the context, and each feature's support.
template <class Scalar>
void describe(const char* path) {
  const auto ensemble = pushforward::Ensemble<Scalar>::load(path);
  for (const auto& name : ensemble.columns()) std::printf("%s ", name.c_str());
  std::printf("|");
  for (const auto& name : ensemble.context_columns()) std::printf(" %s", name.c_str());
  std::printf("\n");
  for (const auto& support : ensemble.support())
    std::printf("%s %g %g\n", support.kind.c_str(), support.low, support.high);
}

// Writes densities, and as many samples from row 5 of key 7 on, and theirs.
template <class Scalar>
void run_ensemble(char** arguments) {
  const auto ensemble = pushforward::Ensemble<Scalar>::load(arguments[0]);
  const auto x = read<Scalar>(arguments[1]);
  const bool conditional = std::strcmp(arguments[2], "-") != 0;
  const auto context = conditional ? read<Scalar>(arguments[2]) : std::vector<Scalar>();
  const std::string folder = std::string(arguments[3]) + "/";
  const auto rows = static_cast<pushforward::Index>(x.size()) / ensemble.dim();
  const Scalar* conditions = conditional ? context.data() : nullptr;

  std::vector<double> density(static_cast<std::size_t>(rows));
  ensemble.log_prob(x, density, context);
  write(folder + "log_prob", density);
  std::vector<Scalar> gradient(x.size());
  ensemble.log_prob_and_grad(x, density, gradient, context);
  write(folder + "grad", gradient);
  std::vector<Scalar> samples(x.size());
  ensemble.sample({7, 5}, rows, samples.data(), density.data(), conditions);
  write(folder + "samples", samples);
  write(folder + "samples_log_prob", density);
  std::printf("%zu %td %td\n", ensemble.size(), ensemble.dim(), ensemble.context());
}

void run_table(char** arguments) {
  const auto flow = pushforward::TableFlow::load(arguments[0]);
  for (const auto& column : flow.columns()) {
    std::printf("%s %s %g %g %g %d %s", column.name.c_str(), column.kind.c_str(), column.low, column.high, column.step,
                column.gaps ? 1 : 0, column.unit.c_str());
    for (const double atom : column.atoms) std::printf(" %g", atom);
    for (const auto& value : column.categories) std::printf(" %s", value.dump().c_str());
    std::printf("\n");
  }
  const auto rows = read<double>(arguments[1]);
  std::vector<double> density(rows.size() / flow.columns().size());
  flow.log_prob(rows, density);
  write(std::string(arguments[2]) + "/log_prob", density);
}

template <class Model>
void load(const char* path) {
  try {
    (void)Model::load(path);
    std::printf("loaded\n");
  } catch (const pushforward::FileFormatError& error) {
    std::printf("FileFormatError: %s\n", error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    std::printf("filesystem_error: %s\n", error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv, argv + argc);
  if (argc < 4) return 2;
  const bool is_double = words[1] == "double";
  if (words[2] == "run" && argc == 8) {
    is_double ? run<double>(argv + 3) : run<float>(argv + 3);
    return 0;
  }
  if (words[2] == "ensemble" && argc == 7) {
    is_double ? run_ensemble<double>(argv + 3) : run_ensemble<float>(argv + 3);
    return 0;
  }
  if (words[2] == "describe") {
    is_double ? describe<double>(argv[3]) : describe<float>(argv[3]);
    return 0;
  }
  if (words[2] == "table" && argc == 6) {
    run_table(argv + 3);
    return 0;
  }
  using pushforward::Ensemble, pushforward::Flow, pushforward::TableFlow;
  for (int i = 3; i < argc; ++i) {
    if (words[2] == "load")
      is_double ? load<Flow<double>>(argv[i]) : load<Flow<float>>(argv[i]);
    else if (words[2] == "load-ensemble")
      is_double ? load<Ensemble<double>>(argv[i]) : load<Ensemble<float>>(argv[i]);
    else if (words[2] == "load-table")
      load<TableFlow>(argv[i]);
    else
      return 2;
  }
}
