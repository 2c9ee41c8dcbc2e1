#include "common/checkpoint/checkpoint_directory.hpp"

#include <algorithm>
#include <string>

#include "common/files/error.hpp"

namespace kv {
namespace {

namespace fs = std::filesystem;

/// What cannot be looked at does not exist.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// "owner/name": the owner has no dot, the name may.
bool is_hub_name(const std::string& given) {
  const std::size_t slash = given.find('/');
  return std::ranges::count(given, '/') == 1 && slash > 0 && slash + 1 < given.size() && given.find_first_of("./~") == slash;
}

bool holds_hub_models(const fs::path& directory) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().filename().string().starts_with("models--")) return true;
  return false;
}

/// The cache, a model's folder in it, or its folder of revisions: the checkpoint lies further in.
bool is_in_hub_cache(const fs::path& directory) {
  return !is_there(directory / "config.json") && (is_there(directory / "snapshots") || directory.filename() == "snapshots" || holds_hub_models(directory));
}

bool is_gguf(const fs::path& path) { return path.extension() == ".gguf" || path.extension() == ".GGUF"; }

}  // namespace

fs::path checkpoint_directory(const fs::path& given) {
  std::error_code ignored;
  const std::string name = given.string(), wanted = "give a Hugging Face checkpoint: config.json and model.safetensors in one directory";
  if (fs::is_directory(given, ignored)) {
    if (is_in_hub_cache(given)) throw Error(name + ": is a folder of the hub's cache; the checkpoint is in it: models--OWNER--NAME/snapshots/REVISION");
    return given;
  }
  if (is_gguf(given)) throw Error(name + ": GGUF is not read; " + wanted);
  if (is_there(given)) throw Error(name + ": is not a directory; " + wanted);
  throw Error(name + ": no such directory; " + (is_hub_name(name) ? "nothing is downloaded here: hf download " + name + " --local-dir DIR, and give DIR" : wanted));
}

}  // namespace kv
