#include "fleet/depot/chunks.h"

#include <algorithm>
#include <fstream>
#include <string_view>

#include "crypto/digest.h"

namespace tandem::fleet {
namespace {

constexpr size_t kReadBufferBytes = 1UL << 20;

}  // namespace

Result<DigestedFile> DigestFile(const std::filesystem::path& path, uint64_t chunk_bytes,
                                const std::function<void(uint64_t)>& progress,
                                const std::stop_token& stop) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Err(ErrorCode::kNotFound, "'{}' cannot be opened", path.string());
  DigestedFile digested;
  crypto::Sha256 whole;
  crypto::Sha256 chunk;
  uint64_t in_chunk = 0;
  std::string buffer(kReadBufferBytes, '\0');
  while (in) {
    if (stop.stop_requested()) return Err(ErrorCode::kCancelled, "cancelled");
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    std::string_view bytes(buffer.data(), static_cast<size_t>(in.gcount()));
    whole.Update(bytes);
    digested.size_bytes += bytes.size();
    if (progress) progress(bytes.size());
    while (!bytes.empty()) {
      const auto taken = std::min<uint64_t>(bytes.size(), chunk_bytes - in_chunk);
      chunk.Update(bytes.substr(0, taken));
      bytes.remove_prefix(taken);
      in_chunk += taken;
      if (in_chunk < chunk_bytes) continue;
      digested.chunks.push_back(crypto::Hex(chunk.Finish()));
      in_chunk = 0;
    }
  }
  if (in.bad()) {
    return Err(ErrorCode::kIo, "reading '{}' failed at byte {}", path.string(),
               digested.size_bytes);
  }
  if (in_chunk > 0) digested.chunks.push_back(crypto::Hex(chunk.Finish()));
  digested.sha256 = crypto::Hex(whole.Finish());
  return digested;
}

}  // namespace tandem::fleet
