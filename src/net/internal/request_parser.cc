#include "net/internal/request_parser.h"

#include <algorithm>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>

namespace tandem::net::internal {
namespace {

namespace http = boost::beast::http;

// More fields than any client sends; each costs two allocations.
constexpr size_t kMaxFields = 200;

// A body's buffer grows as the body comes, not as Content-Length promises.
constexpr size_t kMaxReservedBodyBytes = 64 << 10;

// "PRI * HTTP/2.0\r", as opposed to what is no version at all.
bool NamesAnotherHttpVersion(std::string_view request_line) {
  const size_t at = request_line.rfind(" HTTP/");
  if (at == request_line.npos) return false;
  const std::string_view version = request_line.substr(at + 6);
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return version.size() >= 3 && is_digit(version[0]) && version[1] == '.' && is_digit(version[2]) &&
         version.substr(0, 3) != "1.0" && version.substr(0, 3) != "1.1";
}

}  // namespace

RequestParser::RequestParser(const Limits& limits, OpenBody open_body)
    : limits_(limits), open_body_(std::move(open_body)) {
  header_limit(static_cast<std::uint32_t>(std::min<size_t>(limits.max_header_bytes, 1u << 30)));
  // Ours holds only where no sink takes the body, which is not known yet.
  body_limit(boost::none);
  eager(true);
}

RequestParser::Outcome RequestParser::Feed(std::string_view data, size_t* consumed) {
  *consumed = 0;
  if (!got_some()) {
    // Some clients end a body with a line break too many; RFC 9112 2.2 says to skip it.
    const size_t start = std::min(data.find_first_not_of("\r\n"), data.size());
    *consumed = start;
    data.remove_prefix(start);
    if (data.empty()) return Outcome::kNeedMore;
  }
  if (data.empty()) return Outcome::kNeedMore;
  ErrorCodeOut ec;
  const size_t used = put(boost::asio::const_buffer(data.data(), data.size()), ec);
  *consumed += used;
  if (ec && ec != http::error::need_more) return FailFromParser(ec, data);
  if (is_done()) return Outcome::kComplete;
  if (data.size() - used > limits_.max_header_bytes) {
    return Fail(400, ErrorCode::kInvalidArgument,
                "a chunk's size line or the trailers are larger than any header may be");
  }
  return Outcome::kNeedMore;
}

RequestParser::Outcome RequestParser::Fail(int status, ErrorCode code, std::string message) {
  error_status_ = status;
  error_ = Error{code, std::move(message), {}};
  return Outcome::kError;
}

void RequestParser::Refuse(int status, ErrorCode code, std::string message, ErrorCodeOut& ec) {
  Fail(status, code, std::move(message));
  ec = http::error::bad_value;
}

RequestParser::Outcome RequestParser::FailFromParser(const ErrorCodeOut& ec,
                                                     std::string_view data) {
  if (error_status_ != 0) return Outcome::kError;  // by Refuse
  if (ec == http::error::header_limit) {
    return Fail(431, ErrorCode::kResourceExhausted,
                fmt::format("the request's headers are larger than the {} bytes allowed",
                            limits_.max_header_bytes));
  }
  if (ec == http::error::bad_version && NamesAnotherHttpVersion(data.substr(0, data.find('\n')))) {
    return Fail(505, ErrorCode::kUnsupported, "only HTTP/1.1 and HTTP/1.0 are spoken here");
  }
  return Fail(400, ErrorCode::kInvalidArgument,
              fmt::format("the request is not valid HTTP: {}", ec.message()));
}

void RequestParser::on_request_impl(http::verb, BeastView method, BeastView target, int version,
                                    ErrorCodeOut&) {
  version_ = version;
  request_.method.assign(method.data(), method.size());
  request_.target.assign(target.data(), target.size());
  const size_t question = request_.target.find('?');
  request_.path = request_.target.substr(0, question);
  if (question != std::string::npos) request_.query = request_.target.substr(question + 1);
  field_bytes_ = method.size() + target.size();
}

void RequestParser::on_field_impl(http::field, BeastView name, BeastView value, ErrorCodeOut& ec) {
  // Trailers come this way too; nothing that we serve has a use for them.
  if (is_header_done()) return;
  field_bytes_ += name.size() + value.size() + 4;
  // Beast's own limit holds for what it sees in one piece; this one for the whole.
  if (field_bytes_ > limits_.max_header_bytes || request_.headers.size() >= kMaxFields) {
    Refuse(431, ErrorCode::kResourceExhausted,
           fmt::format("the request's headers are more than the {} bytes or {} fields allowed",
                       limits_.max_header_bytes, kMaxFields),
           ec);
    return;
  }
  request_.headers.Add({name.data(), name.size()}, {value.data(), value.size()});
}

void RequestParser::on_header_impl(ErrorCodeOut& ec) {
  const Headers& headers = request_.headers;
  const size_t n_hosts = headers.Count("Host");
  if (n_hosts > 1 || (n_hosts == 0 && !is_http_1_0())) {
    return Refuse(400, ErrorCode::kInvalidArgument, "an HTTP/1.1 request needs one Host header",
                  ec);
  }
  const size_t n_codings = headers.Count("Transfer-Encoding");
  if (n_codings > 0) {
    // RFC 9112 6.1: a message with both lengths, or one from HTTP/1.0 with a coding, is how
    // requests are smuggled past a proxy.
    if (is_http_1_0() || headers.Count("Content-Length") > 0) {
      return Refuse(400, ErrorCode::kInvalidArgument,
                    "Transfer-Encoding together with Content-Length or HTTP/1.0 is not accepted",
                    ec);
    }
    if (n_codings > 1 || !EqualsIgnoreCase(*headers.Find("Transfer-Encoding"), "chunked")) {
      return Refuse(501, ErrorCode::kUnsupported, "the only transfer coding taken is 'chunked'",
                    ec);
    }
  }
  if (const auto expect = headers.Find("Expect"); expect && !is_http_1_0()) {
    if (!EqualsIgnoreCase(*expect, "100-continue")) {
      return Refuse(417, ErrorCode::kUnsupported, "the only expectation met is '100-continue'", ec);
    }
    expects_continue_ = true;
  }
  const auto length = content_length();
  if (open_body_ && (n_codings > 0 || (length && *length > 0))) {
    request_.body_sink = open_body_(request_);
  }
  if (!request_.body_sink && length && *length > limits_.max_body_bytes) RefuseBody(ec);
}

void RequestParser::RefuseBody(ErrorCodeOut& ec) {
  Refuse(
      413, ErrorCode::kResourceExhausted,
      fmt::format("the request's body is larger than the {} bytes allowed", limits_.max_body_bytes),
      ec);
}

void RequestParser::on_chunk_header_impl(std::uint64_t size, BeastView, ErrorCodeOut& ec) {
  if (!request_.body_sink && size > limits_.max_body_bytes - body_bytes_) RefuseBody(ec);
}

void RequestParser::TakeBody(std::string_view bytes) {
  body_bytes_ += bytes.size();
  if (!request_.body_sink) {
    request_.body.append(bytes);
  } else if (!request_.body_sink->Take(bytes)) {
    sink_is_full_ = true;
  }
}

void RequestParser::on_body_init_impl(const boost::optional<std::uint64_t>& content_length,
                                      ErrorCodeOut&) {
  if (content_length && !request_.body_sink) {
    request_.body.reserve(std::min<std::uint64_t>(*content_length, kMaxReservedBodyBytes));
  }
}

std::size_t RequestParser::on_body_impl(BeastView body, ErrorCodeOut&) {
  TakeBody({body.data(), body.size()});
  return body.size();
}

std::size_t RequestParser::on_chunk_body_impl(std::uint64_t, BeastView body, ErrorCodeOut&) {
  TakeBody({body.data(), body.size()});
  return body.size();
}

}  // namespace tandem::net::internal
