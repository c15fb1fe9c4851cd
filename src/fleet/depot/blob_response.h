// A blob, or a range of it, as the answer to a request: read from the disk piece by piece as fast
// as the client takes them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "fleet/depot/workers.h"
#include "net/http_server.h"

namespace tandem::fleet {

struct ByteRange {
  uint64_t first = 0;
  uint64_t n_bytes = 0;
};

// A Range header of one range (RFC 9110, 14.2) against a length. Nothing: no range that has to be
// honoured (another unit, several ranges, not a range at all); kInvalidArgument: one that lies
// beyond the end.
Result<std::optional<ByteRange>> ParseRange(std::string_view header, uint64_t size_bytes);

// Answers GET and HEAD of `path`, whose content never changes and has that digest: 200, 206, 304
// or 416. Called on a worker; goes on by itself on workers, which outlive it.
//   Memory: what net/ buffers for the response and one piece.
// Errors: kNotFound, with nothing answered, where there is no such file.
Status SendBlob(const net::HttpRequest& request, const std::shared_ptr<net::HttpResponse>& response,
                const std::filesystem::path& path, std::string_view sha256,
                std::string_view content_type, Workers* workers);

}  // namespace tandem::fleet
