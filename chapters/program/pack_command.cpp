#include <iostream>

#include "chapters/models/model_tensors.hpp"
#include "chapters/program/session.hpp"
#include "common/text/table.hpp"

namespace kv {
namespace {

void run(const Arguments& arguments) {
  apply_threads(arguments);
  arguments.text("--model");  // never beside the shipped model by accident
  const Checkpoint checkpoint = open_checkpoint(arguments);
  const std::vector<MatrixView> matrices = multiplied(model_tensors(checkpoint));
  const std::filesystem::path file =
      checkpoint.keep_packed(matrices, [](const MatrixView& matrix) { show_progress(std::string(matrix.where)); });
  clear_progress();
  std::cout << file.string() << ": " << grouped(std::filesystem::file_size(file))
            << " bytes of packed weights; every start maps them from now on, until a file of weights changes\n";
}

}  // namespace

const Command pack_command{"pack",
                           "keep packed weights in a file beside the checkpoint: later starts do not pack",
                           {{"--model", "DIR", "checkpoint; the file is DIR/packed.kvbook"}, threads_option},
                           run};

}  // namespace kv
