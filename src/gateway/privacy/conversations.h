// Which conversations have to stay on the device, and which target answers each.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/bounded_queue.h"
#include "base/clock.h"
#include "base/error.h"
#include "gateway/provider/provider.h"
#include "store/database.h"

namespace tandem::gateway::privacy {

struct ConversationState {
  Privacy privacy = Privacy::kAny;  // the strictest that any request of it had
  std::string target;               // that its tier is pinned to; empty: none

  friend bool operator==(const ConversationState&, const ConversationState&) = default;
};

// A conversation is known in two ways: by the id that a client gives it, and by what it says, so
// that a client which sends its history again without an id is still known.
//
// By what it says means by digests, keyed with a secret of this store, of
// - each beginning of the chain of messages from the first user message on. A system prompt is
// shared
//   by many conversations and so no part of it; neither is a beginning as short as "Hi", before an
//   answer follows. A request is kept as its whole chain: few-shot examples at its beginning, which
//   others share, do not make those others stay.
// - each tool result of 16 bytes and more by itself, and each answer of 64 bytes and more that was
//   written here: what a client keeps that cuts off the oldest messages.
// Whatever matches counts, and the strictest wins: where it is doubtful, it stays. The price is
// that a conversation which repeats an on-device one word for word, or shares a tool result with
// it, stays as well.
//
// No text is kept. Nothing here is for one key alone but within `scope`, which the caller chooses.
// Bounded: beyond max_entries the oldest pins go first, then (with a warning) the oldest marks.
// Thread: any.
class Conversations {
 public:
  using Digest = std::array<uint8_t, 16>;  // the first half of an HMAC-SHA-256

  struct Options {
    size_t max_entries = 500'000;     // about 100 bytes each, in memory and on disk
    std::chrono::hours ttl{24 * 30};  // since it was last seen
  };

  // What a request is known by. Cheap to keep until its answer is there.
  struct Fingerprint {
    std::optional<Digest> id;
    std::vector<Digest> chain;  // beginnings that identify it, shortest first
    bool identified = false;    // chain.back() is of all messages
    std::vector<Digest> items;  // tool results and long answers
    Digest last{};              // of all messages, identifying or not
    std::string scope;
  };

  // Reads what is kept. The secret lies beside it in the database, so that neither is ever without
  // the other and nodes that share the database know the same conversations. `database` and `clock`
  // outlive the object. Errors: the database's; kCorrupt.
  static Result<std::unique_ptr<Conversations>> Open(store::Database* database, const Clock* clock,
                                                     Options options);
  static Result<std::unique_ptr<Conversations>> Open(store::Database* database,
                                                     const Clock* clock) {
    return Open(database, clock, Options());
  }
  // Writes what is still queued.
  ~Conversations();

  // `scope` keeps tenants apart, for example the key's owner; `id` is what the client calls the
  // conversation, empty where it says nothing. Cost: about 2 us a message, and one pass over the
  // text.
  Fingerprint FingerprintOf(std::string_view scope, std::string_view id,
                            std::span<const Message> messages) const;

  // Nothing where the conversation is new. The target is that of the id, else that of the longest
  // beginning. Cost: a look-up for each digest, in memory.
  std::optional<ConversationState> Find(const Fingerprint& fingerprint);

  // Before the request is answered. Privacy never becomes less strict by it; an empty target leaves
  // the one that is there. A stricter privacy is on disk when it returns, a pin within a second: a
  // crash in between costs a warm cache, not a promise.
  // Errors: the database's; this process remembers it all the same.
  Status Remember(const Fingerprint& fingerprint, const ConversationState& state);

  // After it: the answer is part of the conversation, as the client will send it back.
  Status RememberAnswer(const Fingerprint& fingerprint, const Message& answer,
                        const ConversationState& state);

  // Takes over what other nodes that share the database remembered since; nothing to do where none
  // can. Meant to be called about twice a second: what one node is told to keep on the device, the
  // others know after so long. Errors: the database's; kCorrupt.
  Status Follow();

  size_t size() const;

 private:
  struct Entry {
    ConversationState state;
    int64_t last_seen = 0;  // seconds since 1970
    int64_t stored_at = 0;  // `last_seen` as it is on disk
  };
  struct DigestHash {
    size_t operator()(const Digest& digest) const;
  };
  struct Row {
    Digest digest;
    Entry entry;
  };

  Conversations(store::Database* database, std::string secret, const Clock* clock, Options options);
  Status Load();
  // Every row with a change later than `change`; raises it. Merges: the strictest privacy wins.
  Status ReadSince(int64_t* change);
  Digest Keyed(char purpose, std::string_view scope, std::string_view content) const;
  Status RememberAll(std::span<const Digest> digests, const ConversationState& state);
  void EvictLocked(int64_t now);
  Status Write(std::span<const Row> rows);
  void RunWriter(const std::stop_token& stop);

  store::Database* const database_;
  const std::string secret_;  // 32 bytes
  const Clock* const clock_;
  const Options options_;

  mutable std::mutex mutex_;
  std::unordered_map<Digest, Entry, DigestHash> entries_;  // guarded by mutex_
  std::mutex follow_mutex_;
  int64_t followed_ = 0;  // guarded by follow_mutex_: the last change that was read

  BoundedQueue<Row> queue_{4096};  // pins and refreshed times; full: they are dropped
  std::mutex pause_mutex_;
  std::condition_variable_any pause_;  // ends early when the writer is asked to stop
  std::jthread writer_;                // last: it uses the others
};

}  // namespace tandem::gateway::privacy
