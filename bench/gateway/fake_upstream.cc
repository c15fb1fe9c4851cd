// An OpenAI-compatible upstream on loopback for benchmarks, whose behaviour the request's `model`
// chooses by parts behind the first '-':
//   d50   the answer, or its first chunk, comes after 50 ms     n64   64 chunks (default 16)
//   i5    chunks are 5 ms apart (default: all at once)          e429  that status
//   x10   the connection is cut after 10 chunks                 hang  no answer
// Every chunk's text is "@<nanoseconds of the monotonic clock> ", stamped when it is written, so
// that a client on the same machine sees how long it was on its way. GET /stats: requests, and
// answers whose client left before their end. Usage: fake_upstream PORT
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include <fmt/format.h>

#include "net/http_server.h"

namespace tandem::bench {
namespace {

using std::chrono::milliseconds;
using Time = std::chrono::steady_clock::time_point;

struct Behaviour {
  int n_chunks = 16;
  milliseconds interval{0};
  milliseconds delay{0};
  int status = 200;
  int cut_after = 0;  // 0: never
  bool hangs = false;
};

// The string behind `"model"` in a body; good enough for the bodies of a benchmark.
std::string_view ModelIn(std::string_view body) {
  const size_t key = body.find("\"model\"");
  if (key == body.npos) return "";
  const size_t begin = body.find('"', body.find(':', key));
  if (begin == body.npos) return "";
  return body.substr(begin + 1, body.find('"', begin + 1) - begin - 1);
}

bool HasTrue(std::string_view body, std::string_view name) {
  const size_t key = body.find(name);
  if (key == body.npos) return false;
  const size_t value = body.find_first_not_of(": ", key + name.size());
  return value != body.npos && body.substr(value).starts_with("true");
}

Behaviour Parse(std::string_view model) {
  Behaviour behaviour;
  while (model.find('-') != model.npos) {
    model.remove_prefix(model.find('-') + 1);
    const std::string_view part = model.substr(0, model.find('-'));
    if (part == "hang") behaviour.hangs = true;
    if (part.size() < 2 || part == "hang") continue;
    int value = 0;
    std::from_chars(part.data() + 1, part.data() + part.size(), value);
    if (part[0] == 'n') behaviour.n_chunks = value;
    if (part[0] == 'i') behaviour.interval = milliseconds(value);
    if (part[0] == 'd') behaviour.delay = milliseconds(value);
    if (part[0] == 'e') behaviour.status = value;
    if (part[0] == 'x') behaviour.cut_after = value;
  }
  return behaviour;
}

std::string Chunk(std::string_view delta, std::string_view finish_reason) {
  return fmt::format(
      "data: {{\"id\":\"chatcmpl-s\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
      "\"model\":\"fake\",\"system_fingerprint\":\"fp_fake\",\"choices\":[{{\"index\":0,\"delta\":"
      "{{{}}},\"logprobs\":null,\"finish_reason\":{}}}]}}\n\n",
      delta, finish_reason);
}

class Upstream {
 public:
  void Handle(const net::HttpRequest& request, std::shared_ptr<net::HttpResponse> response) {
    if (request.path == "/stats") {
      std::lock_guard lock(mutex_);
      response->SendFull(
          200, {{"Content-Type", "application/json"}},
          fmt::format("{{\"requests\":{},\"aborted_while_busy\":{}}}", n_requests_, n_aborted_));
      return;
    }
    auto answer = std::make_shared<Answer>();
    answer->behaviour = Parse(ModelIn(request.body));
    answer->streams = HasTrue(request.body, "\"stream\"");
    answer->usage = HasTrue(request.body, "\"include_usage\"");
    response->OnClosed([this] {
      std::lock_guard lock(mutex_);
      ++n_aborted_;
    });
    answer->response = std::move(response);
    {
      std::lock_guard lock(mutex_);
      ++n_requests_;
      if (answer->behaviour.hangs) hanging_.push_back(answer);
    }
    if (answer->behaviour.hangs) return;
    if (answer->behaviour.delay.count() == 0) return Step(answer);
    At(std::chrono::steady_clock::now() + answer->behaviour.delay, answer);
  }

  // Writes what is due, for ever.
  void Run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      if (due_.empty()) {
        changed_.wait(lock);
        continue;
      }
      const auto first = due_.begin();
      if (first->first > std::chrono::steady_clock::now()) {
        changed_.wait_until(lock, first->first);
        continue;
      }
      const auto answer = first->second;
      answer->due = first->first;
      due_.erase(first);
      lock.unlock();
      Step(answer);
      lock.lock();
    }
  }

 private:
  struct Answer {
    Behaviour behaviour;
    bool streams = false;
    bool usage = false;
    int n_sent = 0;
    Time due = std::chrono::steady_clock::now();
    std::shared_ptr<net::HttpResponse> response;
  };

  void At(Time due, std::shared_ptr<Answer> answer) {
    std::lock_guard lock(mutex_);
    due_.emplace(due, std::move(answer));
    changed_.notify_one();
  }

  void Step(const std::shared_ptr<Answer>& answer) {
    const Behaviour& behaviour = answer->behaviour;
    net::HttpResponse& response = *answer->response;
    const net::Headers json = {{"Content-Type", "application/json"}};
    if (behaviour.status != 200) {
      response.SendFull(behaviour.status, json,
                        R"({"error":{"message":"fake error","type":"server_error","code":null}})");
      return;
    }
    if (!answer->streams) {
      response.SendFull(
          200, json,
          R"({"id":"chatcmpl-fake","object":"chat.completion","created":1700000000,"model":"fake",)"
          R"("choices":[{"index":0,"message":{"role":"assistant","content":"Paris is the capital )"
          R"(of France."},"finish_reason":"stop"}],"usage":{"prompt_tokens":24,)"
          R"("completion_tokens":13,"total_tokens":37}})");
      return;
    }
    if (answer->n_sent == 0) {
      response.StartStream(200, {{"Content-Type", "text/event-stream"}});
      response.Write(Chunk(R"("role":"assistant","content":"")", "null"));
    }
    std::string out;
    while (answer->n_sent < behaviour.n_chunks) {
      if (behaviour.cut_after > 0 && answer->n_sent >= behaviour.cut_after) {
        response.Write(out);
        return response.Abort();
      }
      const auto now = std::chrono::steady_clock::now().time_since_epoch();
      out += Chunk(fmt::format(R"("content":"@{} ")",
                               std::chrono::duration_cast<std::chrono::nanoseconds>(now).count()),
                   "null");
      ++answer->n_sent;
      if (behaviour.interval.count() > 0 && answer->n_sent < behaviour.n_chunks) {
        if (response.Write(out) == net::WriteResult::kClosed) return;
        return At(answer->due + behaviour.interval, answer);
      }
    }
    out += Chunk("", "\"stop\"");
    if (answer->usage) {
      out += fmt::format(
          "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":24,\"completion_tokens\":{},"
          "\"total_tokens\":{}}}}}\n\n",
          behaviour.n_chunks, behaviour.n_chunks + 24);
    }
    response.Write(out + "data: [DONE]\n\n");
    response.Finish();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<Time, std::shared_ptr<Answer>> due_;
  std::vector<std::shared_ptr<Answer>> hanging_;
  int64_t n_requests_ = 0;
  int64_t n_aborted_ = 0;
};

int Main(int argc, char** argv) {
  int port = 0;
  if (argc == 2) std::from_chars(argv[1], argv[1] + std::string_view(argv[1]).size(), port);
  if (port <= 0 || port > 65535) {
    fmt::print(stderr, "usage: fake_upstream PORT\n");
    return 2;
  }
  Upstream upstream;
  net::HttpServerOptions options;
  options.port = static_cast<uint16_t>(port);
  const auto server = net::HttpServer::Start(
      options, [&](const net::HttpRequest& request, std::shared_ptr<net::HttpResponse> response) {
        upstream.Handle(request, std::move(response));
      });
  if (!server) {
    fmt::print(stderr, "fake_upstream: {}\n", server.error().message);
    return 1;
  }
  upstream.Run();
  return 0;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) { return tandem::bench::Main(argc, argv); }
