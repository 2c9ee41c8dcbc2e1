#pragma once
/// @file
/// Whether the book runs a model, from config.json alone.
#include "chapters/models/architectures.hpp"

namespace kv {

/// The family that a config.json describes.
/// @throws Error naming an architecture, or an option of one, that the book does not run
Family family(const Json& config);

}  // namespace kv
