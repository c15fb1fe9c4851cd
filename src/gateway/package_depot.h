// Packages for devices to fetch: what the gateway asks about them, and the call that clients ask.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gateway/provider/failure.h"

namespace tandem::gateway {

// app/ implements it over the fleet. Thread: any.
class PackageDepot {
 public:
  virtual ~PackageDepot() = default;

  struct Question {
    std::string model;
    std::string quantization;     // "int4"; empty: any
    std::string target_platform;  // "android_arm64"; empty: any
    bool npu = false;
    bool include_tokenizer = true;
  };
  struct File {
    std::string name;
    std::string path;  // on this server, "/v2/..."
    uint64_t size_bytes = 0;
    std::string sha256;
    std::string media_type;
  };
  struct Package {
    std::string model;
    std::string quantization;
    std::string manifest_path;
    std::string manifest_sha256;
    std::vector<File> files;
    // Of the signed manifest among the files; empty where nobody signed it.
    std::string signature_hex;
    std::string key_id;
  };
  // Calls once, now or later, on a thread of the depot's: making a package ready may take a moment.
  // Errors: kNotFound for a model that nobody knows; kFailedPrecondition for one that is not here,
  // or not in that form.
  using Done = std::move_only_function<void(Result<Package>)>;
  virtual void Describe(Question question, Done done) = 0;
};

// POST /v1/models/download. A missing or mistyped field is a failure that names it.
std::expected<PackageDepot::Question, Failure> ParseDownload(std::string_view body);
// `base_url` is this server's, "http://host:port". "mb" is 2^20 bytes.
std::string DownloadBody(const PackageDepot::Question& question,
                         const PackageDepot::Package& package, std::string_view base_url);
// What a failed Describe means for a client.
Failure DownloadFailure(const Error& error);

}  // namespace tandem::gateway
