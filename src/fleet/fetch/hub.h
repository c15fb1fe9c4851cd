// Charter of fleet/fetch: gets model files from the hub (huggingface.co or a mirror that speaks its
// protocol): lists a repository, chooses files, learns what each must be, downloads and verifies
// it. It may include base, os, crypto, net and fleet/catalogue. Where files live on this machine is
// the depot's business.
//
// Source: the hub's protocol as in huggingface_hub's file_download.py and hf_api.py (2026).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "fleet/catalogue/catalogue.h"
#include "net/download.h"
#include "net/retry.h"

namespace tandem::fleet {

struct HubOptions {
  std::string endpoint = "https://huggingface.co";
  std::string token = {};  // sent to the endpoint's origin only
  bool offline = false;    // ask nothing of the network
  net::RetryPolicy retry = {};
  net::TransferRequest transfer = {};  // time limits
};

// HF_ENDPOINT, HF_TOKEN (or HUGGING_FACE_HUB_TOKEN) and HF_HUB_OFFLINE.
HubOptions HubOptionsFromEnvironment();

struct HubFile {
  std::string path;  // within the repository
  std::string name;  // its last component, safe as a file name here
  std::string url;
  uint64_t size_bytes = 0;
  std::string sha256;
};

// What a source means today.
struct HubModel {
  std::string repo;
  std::string quant;           // as chosen, in capitals; empty where the file name has none
  std::string revision;        // the commit that branch or tag stands for
  std::vector<HubFile> files;  // the first part first
};

// Thread: one call at a time; calls block.
class Hub {
 public:
  Hub(HubOptions options, net::Surroundings surroundings)
      : options_(std::move(options)), surroundings_(std::move(surroundings)) {}

  // The environment's hub, the machine's clock and real pauses.
  static Hub FromEnvironment() { return {HubOptionsFromEnvironment(), net::RealSurroundings()}; }

  // Lists the repository, chooses the files and asks for each one's size and digest.
  // Errors (messages say what to do):
  //   kNotFound            no such repository, revision or quantisation (lists what there is)
  //   kPermissionDenied    gated: where to accept the licence, and HF_TOKEN
  //   kUnauthenticated     private, or the token is not valid
  //   kFailedPrecondition  HF_HUB_OFFLINE is set; no digest is published, so nothing could be
  //                        verified; a pin of the catalogue does not match
  //   kUnavailable, kDeadlineExceeded, kCancelled, kCorrupt
  Result<HubModel> Select(const HubSource& source, const std::stop_token& stop) const;

  struct Limits {
    const net::ChunkDigests* chunks = nullptr;  // known from an earlier download
    uint64_t max_bytes_per_second = 0;          // 0: none
  };
  // Downloads one file to `destination` by way of `part`. Errors: as net::Download.
  Result<net::DownloadOutcome> Download(const HubFile& file,
                                        const std::filesystem::path& destination,
                                        const std::filesystem::path& part, const Limits& limits,
                                        const net::DownloadProgressFn& progress,
                                        const std::stop_token& stop) const;

 private:
  struct Listing;

  Result<Listing> List(const HubSource& source, const std::stop_token& stop) const;
  Result<HubFile> Describe(const HubSource& source, const Listing& listing, const std::string& path,
                           const std::stop_token& stop) const;
  // One call with retries; any status but a passing failure is a reply.
  Result<net::TextReply> Call(const std::string& url, net::TransferRequest::Method method,
                              const std::stop_token& stop) const;
  std::unexpected<Error> Refusal(const net::ReplyHead& head, const HubSource& source) const;

  HubOptions options_;
  net::Surroundings surroundings_;
};

}  // namespace tandem::fleet
