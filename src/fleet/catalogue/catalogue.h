// Charter of fleet/catalogue: which models are known by a short name, where their files come from,
// and what a user's words for a model mean (model_ref.h). It may include base, os and crypto. It
// opens no connection and knows nothing of what is installed. The table is data (data/models.json),
// embedded at build time so that the program is one file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace tandem::fleet {

// A file, or the parts of a split one, in a repository of the hub.
struct HubSource {
  std::string repo;                         // "USER/NAME"
  std::string quant = {};                   // "Q4_K_M"; empty: the default order
  std::string revision = "main";            // branch, tag or commit
  std::optional<uint64_t> size_bytes = {};  // pins; where known
  std::string sha256 = {};                  // lower-case hex, or empty
};

struct CatalogueEntry {
  std::string name;
  std::vector<std::string> aliases;
  std::string title;
  std::string license;
  std::vector<HubSource> sources;  // in order of preference; empty for a bundled model
  std::string bundled_file;        // a file name within the installation; empty for the others
};

// Immutable. Thread: any.
class Catalogue {
 public:
  // Reads the format of data/models.json. Errors: kCorrupt, naming the entry and the field.
  static Result<Catalogue> Parse(std::string_view json);
  // The table that this program was built with.
  static const Catalogue& BuiltIn();

  // By name or alias; null when unknown. The pointer lives as long as the catalogue.
  const CatalogueEntry* Find(std::string_view name) const;
  const std::vector<CatalogueEntry>& entries() const { return entries_; }

 private:
  explicit Catalogue(std::vector<CatalogueEntry> entries) : entries_(std::move(entries)) {}

  std::vector<CatalogueEntry> entries_;
};

// 64 lower-case hexadecimal digits.
bool IsSha256Hex(std::string_view text);

// "USER/NAME" of letters, digits, '.', '_' and '-', as the hub allows; neither part may be "." or
// "..", so that it is safe within a URL and a path.
bool IsHubRepo(std::string_view text);

// One path component that may become a file name here: letters, digits, '.', '_', '-' and '+', not
// beginning with '.', at most 200 bytes.
bool IsSafeFileName(std::string_view text);

}  // namespace tandem::fleet
