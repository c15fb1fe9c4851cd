// data/classify/model.bin as the build wrote it into a translation unit (embed_model.cmake).
#pragma once

#include <cstddef>

namespace tandem::gateway {

extern const char kEmbeddedModel[];
extern const size_t kEmbeddedModelBytes;

}  // namespace tandem::gateway
