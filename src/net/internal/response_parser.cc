#include "net/internal/response_parser.h"

#include <algorithm>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>

namespace tandem::net::internal {
namespace {

namespace http = boost::beast::http;

constexpr size_t kMaxFields = 500;

}  // namespace

ResponseParser::ResponseParser(Sink* sink, size_t max_header_bytes, bool head_only)
    : sink_(sink), max_header_bytes_(max_header_bytes) {
  header_limit(static_cast<std::uint32_t>(std::min<size_t>(max_header_bytes, 1u << 30)));
  body_limit(boost::none);  // it is streamed, not kept
  skip(head_only);
  eager(true);
}

ResponseParser::Outcome ResponseParser::Fail(ErrorCode code, std::string message) {
  error_ = Error{code, std::move(message), {}};
  return Outcome::kError;
}

ResponseParser::Outcome ResponseParser::Feed(std::string_view data, size_t* consumed) {
  *consumed = 0;
  if (data.empty()) return Outcome::kNeedMore;
  ErrorCodeOut ec;
  *consumed = put(boost::asio::const_buffer(data.data(), data.size()), ec);
  if (ec && ec != http::error::need_more) {
    if (!error_.message.empty()) return Outcome::kError;  // found by us
    if (ec == http::error::header_limit) {
      return Fail(ErrorCode::kResourceExhausted,
                  fmt::format("the response's headers are larger than the {} bytes allowed",
                              max_header_bytes_));
    }
    return Fail(ErrorCode::kCorrupt,
                fmt::format("the response is not valid HTTP: {}", ec.message()));
  }
  if (is_done()) return head_.status < 200 ? Outcome::kInterim : Outcome::kComplete;
  if (data.size() - *consumed > max_header_bytes_) {
    return Fail(ErrorCode::kCorrupt,
                "a chunk's size line or the trailers of the response never end");
  }
  return Outcome::kNeedMore;
}

ResponseParser::Outcome ResponseParser::FeedEnd() {
  if (got_some() && is_header_done() && need_eof()) {
    ErrorCodeOut ec;
    put_eof(ec);
    if (!ec) return Outcome::kComplete;
  }
  return Fail(ErrorCode::kUnavailable, !got_some() ? "the peer closed the connection unanswered"
                                       : is_header_done()
                                           ? "the peer cut the response in its body"
                                           : "the peer cut the response in its headers");
}

void ResponseParser::on_response_impl(int code, BeastView, int, ErrorCodeOut&) {
  head_.status = code;
}

void ResponseParser::on_field_impl(http::field, BeastView name, BeastView value, ErrorCodeOut& ec) {
  if (is_header_done()) return;  // a trailer
  field_bytes_ += name.size() + value.size() + 4;
  if (field_bytes_ > max_header_bytes_ || head_.headers.size() >= kMaxFields) {
    Fail(ErrorCode::kResourceExhausted,
         fmt::format("the response's headers are more than the {} bytes or {} fields allowed",
                     max_header_bytes_, kMaxFields));
    ec = http::error::header_limit;
    return;
  }
  head_.headers.Add({name.data(), name.size()}, {value.data(), value.size()});
}

void ResponseParser::on_header_impl(ErrorCodeOut& ec) {
  if (head_.status < 200) {
    if (head_.status != 101) return;
    Fail(ErrorCode::kCorrupt, "the peer switches protocols, which it was not asked to");
    ec = http::error::bad_status;
    return;
  }
  // Beast takes a body of unknown coding for one that ends with the connection; it would be passed
  // on still coded.
  if (const auto coding = head_.headers.Find("Transfer-Encoding");
      coding && !EqualsIgnoreCase(*coding, "chunked")) {
    Fail(ErrorCode::kCorrupt, "the response has a transfer coding other than 'chunked'");
    ec = http::error::bad_transfer_encoding;
    return;
  }
  const int status = head_.status;
  sink_->OnParsedHead(std::move(head_));
  head_.status = status;
}

std::size_t ResponseParser::on_body_impl(BeastView body, ErrorCodeOut&) {
  if (!body.empty()) sink_->OnParsedBody({body.data(), body.size()});
  return body.size();
}

std::size_t ResponseParser::on_chunk_body_impl(std::uint64_t, BeastView body, ErrorCodeOut&) {
  if (!body.empty()) sink_->OnParsedBody({body.data(), body.size()});
  return body.size();
}

}  // namespace tandem::net::internal
