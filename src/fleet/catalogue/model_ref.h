// What a user's words for a model mean.
//
//   phi-4-mini, demo              a name (or alias) of the catalogue
//   hf.co/USER/REPO[:QUANT]       a repository of the hub; also huggingface.co/..., with https://
//   or not
//   http://HOST:PORT/NAME[:TAG]   a package of a depot; also https://, and @sha256:HEX for the tag
//   ./x.gguf, /models/x, x.gguf   a file: anything with a slash or the suffix .gguf
//   my-model, demo:int4           any other word: a name that was given to a file (Fleet::Import),
//                                 or under which a package was pulled
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "fleet/catalogue/catalogue.h"

namespace tandem::fleet {

struct ModelRef {
  enum class Kind { kCatalogue, kHub, kDepot, kFile, kName };

  Kind kind = Kind::kName;
  // How the model is called from now on: the catalogue's name (not the alias), "hf.co/USER/REPO" or
  // "hf.co/USER/REPO:QUANT" (QUANT in capitals), the file's name without suffix, or the word.
  std::string name;
  const CatalogueEntry* entry = nullptr;  // kCatalogue
  HubSource hub = {};                     // kHub; quant is empty where none was named
  std::string url = {};                   // kDepot, as given; `name` is what stands behind the host
  std::filesystem::path file = {};        // kFile, as given
};

// Errors: kInvalidArgument (param "model") for an empty or malformed reference. Whether the model
// exists is not asked here. The catalogue must outlive the result.
Result<ModelRef> ParseModelRef(std::string_view text, const Catalogue& catalogue);

// "hf.co/USER/REPO:QUANT".
std::string HubModelName(std::string_view repo, std::string_view quant);

}  // namespace tandem::fleet
