// What tests of downloads fetch, and how it is digested.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "crypto/digest.h"
#include "net/download.h"

namespace tandem::net {

class Sha256Digest final : public ContentDigest {
 public:
  void Update(std::string_view bytes) override { sha256_.Update(bytes); }
  std::string FinishHex() override { return crypto::Hex(sha256_.Finish()); }

 private:
  crypto::Sha256 sha256_;
};

// Bytes in which every position looks different.
inline std::string Content(size_t size) {
  std::string content(size, '\0');
  uint32_t state = 1;
  for (char& c : content) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return content;
}

inline ChunkDigests ChunksOf(std::string_view content, uint64_t chunk_bytes) {
  ChunkDigests chunks{.chunk_bytes = chunk_bytes, .digests_hex = {}};
  for (size_t at = 0; at < content.size(); at += chunk_bytes) {
    chunks.digests_hex.push_back(crypto::Sha256Hex(content.substr(at, chunk_bytes)));
  }
  return chunks;
}

}  // namespace tandem::net
