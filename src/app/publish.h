// `tandem publish`, and what the server's depot does by itself for bundled models: a model becomes
// a package, and the package with what belongs to it becomes an entry of the depot.
#pragma once

#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "crypto/signature.h"
#include "fleet/depot/depot.h"
#include "fleet/depot/publish.h"
#include "fleet/fleet.h"

namespace tandem::app {

struct PublishOptions {
  std::string model;   // a model reference, or a package's file
  std::string name;    // "demo:int4"; empty: the catalogue's name and its first variant
  std::string scheme;  // of packing; empty: the variant's, else "auto"
  std::filesystem::path license_file = {};
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress = {};
  std::stop_token stop = {};
};

// DATA_DIR/models and DATA_DIR/depot-key.pem.
std::filesystem::path DepotDirectory(const std::filesystem::path& data_dir);
std::filesystem::path DepotKeyFile(const std::filesystem::path& data_dir);

// Errors: those of Fleet::Resolve, engine::Pack and fleet::Publish.
Result<fleet::Manifest> PublishModel(const fleet::Fleet& fleet, const fleet::Depot& depot,
                                     const crypto::SigningKey& key, const Clock& clock,
                                     const PublishOptions& options);

}  // namespace tandem::app
