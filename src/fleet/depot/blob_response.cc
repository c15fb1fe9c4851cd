#include "fleet/depot/blob_response.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include "base/log.h"

namespace tandem::fleet {
namespace {

// Two of them wait in the connection, at most, while one is read.
constexpr size_t kPieceBytes = 128UL << 10;
// After so much another response has its turn.
constexpr int kPiecesATurn = 8;

std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// The body of one response on its way.
class BlobStream : public std::enable_shared_from_this<BlobStream> {
 public:
  BlobStream(std::ifstream in, ByteRange range, std::shared_ptr<net::HttpResponse> response,
             Workers* workers)
      : in_(std::move(in)),
        left_bytes_(range.n_bytes),
        response_(std::move(response)),
        workers_(workers) {
    in_.seekg(static_cast<std::streamoff>(range.first));
  }

  // Worker thread; one call at a time.
  void Run() {
    for (int piece = 0; piece < kPiecesATurn; ++piece) {
      if (piece_.empty() && !ReadPiece()) return;
      switch (response_->Write(piece_)) {
        case net::WriteResult::kClosed:
          return;
        case net::WriteResult::kFull:
          return response_->OnWritable([self = shared_from_this()] { self->Continue(); });
        case net::WriteResult::kOk:
          piece_.clear();
      }
    }
    Continue();
  }

 private:
  // False: there is nothing more to write.
  bool ReadPiece() {
    if (left_bytes_ == 0) {
      response_->Finish();
      return false;
    }
    piece_.resize(std::min<uint64_t>(kPieceBytes, left_bytes_));
    if (!in_.read(piece_.data(), static_cast<std::streamsize>(piece_.size()))) {
      // The client sees a cut answer, not a wrong one.
      log::Error("reading a blob failed with {} bytes to go", left_bytes_);
      response_->Abort();
      return false;
    }
    left_bytes_ -= piece_.size();
    return true;
  }

  void Continue() {
    if (!workers_->Post([self = shared_from_this()] { self->Run(); })) response_->Abort();
  }

  std::ifstream in_;
  uint64_t left_bytes_;
  std::string piece_;  // read and not written
  const std::shared_ptr<net::HttpResponse> response_;
  Workers* const workers_;
};

}  // namespace

Result<std::optional<ByteRange>> ParseRange(std::string_view header, uint64_t size_bytes) {
  constexpr std::string_view kUnit = "bytes=";
  if (!header.starts_with(kUnit)) return std::nullopt;
  header.remove_prefix(kUnit.size());
  const size_t dash = header.find('-');
  if (dash == header.npos || header.contains(',')) return std::nullopt;
  const std::string_view first_text = header.substr(0, dash);
  const std::string_view last_text = header.substr(dash + 1);
  const auto first = ParseNumber(first_text);
  const auto last = ParseNumber(last_text);
  const auto beyond = [&] {
    return Err(ErrorCode::kInvalidArgument, "the range lies beyond the {} bytes that there are",
               size_bytes);
  };
  if (first_text.empty()) {  // the last so many
    if (!last) return std::nullopt;
    if (*last == 0 || size_bytes == 0) return beyond();
    const uint64_t n_bytes = std::min(*last, size_bytes);
    return ByteRange{.first = size_bytes - n_bytes, .n_bytes = n_bytes};
  }
  if (!first || (!last_text.empty() && (!last || *last < *first))) return std::nullopt;
  if (*first >= size_bytes) return beyond();
  const uint64_t end = last ? std::min(*last, size_bytes - 1) : size_bytes - 1;
  return ByteRange{.first = *first, .n_bytes = end - *first + 1};
}

Status SendBlob(const net::HttpRequest& request, const std::shared_ptr<net::HttpResponse>& response,
                const std::filesystem::path& path, std::string_view sha256,
                std::string_view content_type, Workers* workers) {
  std::error_code error;
  const uintmax_t size_bytes = std::filesystem::file_size(path, error);
  std::ifstream in(path, std::ios::binary);
  if (error || !in) return Err(ErrorCode::kNotFound, "the blob sha256:{} is not here", sha256);
  const std::string etag = fmt::format("\"sha256:{}\"", sha256);
  net::Headers headers = {{"Content-Type", std::string(content_type)},
                          {"Docker-Content-Digest", fmt::format("sha256:{}", sha256)},
                          {"ETag", etag},
                          {"Accept-Ranges", "bytes"},
                          {"Cache-Control", "private, max-age=31536000, immutable"}};
  if (request.headers.Find("If-None-Match") == etag) {
    response->SendFull(304, std::move(headers), "");
    return {};
  }
  ByteRange range{.first = 0, .n_bytes = size_bytes};
  int status = 200;
  const auto wanted = request.headers.Find("Range");
  const auto if_range = request.headers.Find("If-Range");
  if (wanted && (!if_range || *if_range == etag)) {
    const auto parsed = ParseRange(*wanted, size_bytes);
    if (!parsed) {
      headers.Set("Content-Range", fmt::format("bytes */{}", size_bytes));
      response->SendFull(416, std::move(headers), "");
      return {};
    }
    if (*parsed) {
      range = **parsed;
      status = 206;
      headers.Set("Content-Range", fmt::format("bytes {}-{}/{}", range.first,
                                               range.first + range.n_bytes - 1, size_bytes));
    }
  }
  headers.Set("Content-Length", fmt::format("{}", range.n_bytes));
  if (request.method == "HEAD") {
    response->SendFull(status, std::move(headers), "");
    return {};
  }
  if (!response->StartStream(status, std::move(headers))) return {};
  std::make_shared<BlobStream>(std::move(in), range, response, workers)->Run();
  return {};
}

}  // namespace tandem::fleet
