// A load client for OpenAI-compatible servers on loopback: a number of connections, each with one
// request after another. Prints one JSON line: latencies, and for streams the way of each chunk
// from fake_upstream's stamp to here. Usage:
//   load_client -p PORT [-s] [-m MODEL] [-c CONNECTIONS] [-n REQUESTS] [-w WARM_UP_REQUESTS]
//               [-H 'name: value'] [-P PATH]
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "net/http_client.h"

namespace tandem::bench {
namespace {

using Clock = std::chrono::steady_clock;

double MicrosecondsSince(Clock::time_point from) {
  return std::chrono::duration<double, std::micro>(Clock::now() - from).count();
}

struct Options {
  int port = 0;
  bool streams = false;
  std::string model = "fake";
  std::string path = "/v1/chat/completions";
  int n_connections = 1;
  int n_requests = 1000;
  int n_warm_up = 0;
  net::Headers headers = {{"Content-Type", "application/json"}};
};

class Figures {
 public:
  void Add(double value) { values_.push_back(value); }
  std::string Json(std::string_view name) {
    std::ranges::sort(values_);
    return fmt::format(R"("{}_us":{{"n":{},"p50":{:.1f},"p90":{:.1f},"p99":{:.1f}}})", name,
                       values_.size(), At(0.5), At(0.9), At(0.99));
  }

 private:
  double At(double share) const {
    if (values_.empty()) return 0;
    return values_[static_cast<size_t>(share * static_cast<double>(values_.size() - 1) + 0.5)];
  }
  std::vector<double> values_;
};

class Load {
 public:
  explicit Load(Options options) : options_(std::move(options)) {
    net::HttpClientOptions client;
    client.environment = [](const std::string&) { return std::optional<std::string>(); };
    client.max_idle_per_origin = static_cast<size_t>(options_.n_connections);
    client_ = net::HttpClient::Create(std::move(client)).value();
    body_ = fmt::format(
        R"({{"model":"{}","messages":[{{"role":"system","content":"You are a helpful assistant."}},)"
        R"({{"role":"user","content":"What is the capital of France?"}}],"max_tokens":64,)"
        R"("temperature":0{}}})",
        options_.model,
        options_.streams ? R"(,"stream":true,"stream_options":{"include_usage":true})" : "");
  }

  std::string Run() {
    const int n_all = options_.n_requests + options_.n_warm_up;
    n_to_start_ = n_all;
    {
      std::lock_guard lock(mutex_);
      for (int i = 0; i < options_.n_connections && n_to_start_ > 0; ++i) StartOne();
    }
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return n_done_ == n_all; });
    const double seconds = MicrosecondsSince(measured_from_) / 1e6;
    return fmt::format(
        R"({{"req":{},"errors":{},"non2xx":{},"no_done":{},"chunks":{},"secs":{:.3f},)"
        R"("rps":{:.1f},{},{},{}}})",
        options_.n_requests, n_errors_, n_not_ok_, n_without_end_, n_chunks_, seconds,
        options_.n_requests / seconds, latency_.Json("lat"), first_text_.Json("ttft"),
        transit_.Json("transit"));
  }

 private:
  class Handler final : public net::ResponseHandler {
   public:
    Handler(Load* load, bool measured) : load_(load), measured_(measured) {}
    void OnHead(net::ClientResponseHead head) override { status_ = head.status; }
    void OnBody(std::string_view bytes) override {
      rest_.append(bytes);
      size_t line_end = 0;
      while ((line_end = rest_.find('\n')) != std::string::npos) {
        OnLine(std::string_view(rest_).substr(0, line_end));
        rest_.erase(0, line_end + 1);
      }
    }
    void OnDone(net::CallOutcome outcome) override {
      load_->OnDone(*this, outcome.status.has_value(), MicrosecondsSince(started_));
    }

    const Clock::time_point started_ = Clock::now();
    int status_ = 0;
    bool ended_ = false;  // [DONE] came
    std::optional<double> first_text_;
    std::vector<double> transit_;
    bool measured() const { return measured_; }

   private:
    void OnLine(std::string_view line) {
      if (line.starts_with("data: [DONE]")) ended_ = true;
      const size_t at = line.find('@');
      if (at == line.npos) return;
      if (!first_text_) first_text_ = MicrosecondsSince(started_);
      int64_t stamp = 0;
      std::from_chars(line.data() + at + 1, line.data() + line.size(), stamp);
      transit_.push_back(MicrosecondsSince(Clock::time_point(std::chrono::nanoseconds(stamp))));
    }

    Load* const load_;
    const bool measured_;
    std::string rest_;
  };

  // mutex_ held.
  void StartOne() {
    --n_to_start_;
    const bool measured = n_to_start_ < options_.n_requests;
    if (measured && n_to_start_ == options_.n_requests - 1) measured_from_ = Clock::now();
    client_->Send({.method = "POST",
                   .url = fmt::format("http://127.0.0.1:{}{}", options_.port, options_.path),
                   .headers = options_.headers,
                   .body = body_},
                  std::make_unique<Handler>(this, measured));
  }

  void OnDone(const Handler& handler, bool ok, double latency) {
    std::lock_guard lock(mutex_);
    ++n_done_;
    if (n_to_start_ > 0) StartOne();
    if (handler.measured()) {
      n_errors_ += ok ? 0 : 1;
      n_not_ok_ += handler.status_ / 100 != 2 ? 1 : 0;
      n_without_end_ += options_.streams && !handler.ended_ ? 1 : 0;
      latency_.Add(latency);
      if (handler.first_text_) first_text_.Add(*handler.first_text_);
      for (double us : handler.transit_) transit_.Add(us);
      n_chunks_ += static_cast<int64_t>(handler.transit_.size());
    }
    done_.notify_one();
  }

  const Options options_;
  std::string body_;
  std::mutex mutex_;
  std::condition_variable done_;
  int n_to_start_ = 0;
  int n_done_ = 0;
  int n_errors_ = 0;
  int n_not_ok_ = 0;
  int n_without_end_ = 0;
  int64_t n_chunks_ = 0;
  Clock::time_point measured_from_;
  Figures latency_;
  Figures first_text_;
  Figures transit_;
  std::unique_ptr<net::HttpClient> client_;  // last: its handlers use the rest
};

int Main(int argc, char** argv) {
  Options options;
  for (int option = 0; (option = getopt(argc, argv, "p:P:sm:c:n:w:H:")) > 0;) {
    const std::string_view value = optarg != nullptr ? optarg : "";
    const int number = optarg != nullptr ? static_cast<int>(std::strtol(optarg, nullptr, 10)) : 0;
    switch (option) {
      case 'p':
        options.port = number;
        break;
      case 'P':
        options.path = value;
        break;
      case 's':
        options.streams = true;
        break;
      case 'm':
        options.model = value;
        break;
      case 'c':
        options.n_connections = number;
        break;
      case 'n':
        options.n_requests = number;
        break;
      case 'w':
        options.n_warm_up = number;
        break;
      case 'H': {
        const size_t colon = value.find(':');
        if (colon == value.npos) return 2;
        const size_t text = value.find_first_not_of(' ', colon + 1);
        options.headers.Add(value.substr(0, colon),
                            text == value.npos ? std::string_view() : value.substr(text));
        break;
      }
      default:
        return 2;
    }
  }
  if (options.port <= 0 || options.n_connections <= 0 || options.n_requests <= 0) {
    fmt::print(stderr, "usage: load_client -p PORT [-s] [-m MODEL] [-c N] [-n N] [-w N] [-H H]\n");
    return 2;
  }
  fmt::print("{}\n", Load(std::move(options)).Run());
  return 0;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) { return tandem::bench::Main(argc, argv); }
