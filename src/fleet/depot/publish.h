// Puts a package that was made on this machine into the depot, signed, for others to fetch; and
// finds what was put there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "crypto/signature.h"
#include "fleet/catalogue/catalogue.h"
#include "fleet/catalogue/package_manifest.h"
#include "fleet/depot/depot.h"

namespace tandem::fleet {

struct PublishRequest {
  std::string name;  // "demo:int4"
  std::string quantization;
  std::string license;
  std::filesystem::path package;  // moved into the depot where that is on the same disk
  // Files beside it: where two packages have the same one, it is stored once.
  struct Document {
    std::string name;
    std::string_view media_type;
    std::string content;
  };
  std::vector<Document> documents = {};
  // Says which bytes this is; its `files` are filled in here. Signed with `key`.
  std::optional<PackageManifest> manifest = {};
  int64_t now_s = 0;  // seconds since 1970
};

// Errors: those of reading the package and of the disk; kInvalidArgument for a name that no
// registry could show (param "name").
// Cost: reads the package twice.
Result<Manifest> Publish(const Depot& depot, PublishRequest request, const crypto::SigningKey& key,
                         const std::stop_token& stop);

// The key that a depot signs with (PEM, mode 0600), made where it is missing. It does not lie among
// the files that are served. Errors: kInvalidArgument for a file that is no key; those of the disk.
Result<crypto::SigningKey> OpenDepotKey(const std::filesystem::path& file);

// What a device asks a depot for.
struct PackageQuestion {
  std::string model;
  std::string quantization;  // empty: any
  std::string platform;      // "android_arm64"; empty: any
  bool npu = false;
};

struct FoundPackage {
  Manifest manifest;
  std::string model;  // the catalogue's name, not the alias
  std::string quantization;
  std::optional<SignedManifest> signed_manifest = {};
};

// The address that a question means by the catalogue: a variant's name is its tag. Nothing for a
// model that the catalogue does not know, or without such a variant.
std::optional<oci::Address> AddressFor(const Catalogue& catalogue, const PackageQuestion& question);

// Errors: kNotFound (param "model"): nothing here is called that; kFailedPrecondition: the model is
// known, or here in another form: the message says which there are (param "model",
// "quantization" or "target_platform").
Result<FoundPackage> FindPackage(const Depot& depot, const Catalogue& catalogue,
                                 const PackageQuestion& question);

}  // namespace tandem::fleet
