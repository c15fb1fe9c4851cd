#include "gateway/privacy/conversations.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "crypto/digest.h"
#include "crypto/random.h"

namespace tandem::gateway::privacy {
namespace {

constexpr size_t kSecretBytes = 32;
// Of users and tools, before a beginning says which conversation it is: "Hi" does not.
constexpr size_t kMinIdentifyingBytes = 8;
// By itself; shorter ones ("ok", "{}") are the same everywhere.
constexpr size_t kMinToolResultBytes = 16;
constexpr size_t kMinAnswerBytes = 64;
constexpr int64_t kSecondsPerDay = 86'400;
constexpr size_t kMaxQueued = 4096;
constexpr std::chrono::milliseconds kBatchInterval{250};  // how long the first pin waits for others

// Digests are hexadecimal text: the type of bytes is where the databases differ.
constexpr store::Migration kMigrations[] = {
    {"privacy_conversations",
     "CREATE TABLE privacy_conversations ("
     "  digest TEXT PRIMARY KEY,"
     "  privacy BIGINT NOT NULL,"
     "  target TEXT NOT NULL,"
     "  last_seen BIGINT NOT NULL"  // seconds since 1970
     ");"
     "CREATE INDEX privacy_conversations_last_seen ON privacy_conversations (last_seen);"
     // One row.
     "CREATE TABLE privacy_secret (secret TEXT NOT NULL);"},
    // Every batch of writes has a number, the next one, so that other nodes read only what is new.
    {"privacy_changes",
     "ALTER TABLE privacy_conversations ADD COLUMN change BIGINT NOT NULL DEFAULT 1;"
     "CREATE INDEX privacy_conversations_change ON privacy_conversations (change);"
     // One row.
     "CREATE TABLE privacy_changes (number BIGINT NOT NULL);"
     "INSERT INTO privacy_changes VALUES (1);"},
};

constexpr std::string_view kUpsert =
    "INSERT INTO privacy_conversations (digest, privacy, target, last_seen, change)"
    " VALUES ($1, $2, $3, $4, $5)"
    " ON CONFLICT (digest) DO UPDATE SET"
    "  privacy = CASE WHEN excluded.privacy > privacy_conversations.privacy"
    "            THEN excluded.privacy ELSE privacy_conversations.privacy END,"
    "  target = CASE WHEN excluded.target <> '' THEN excluded.target"
    "           ELSE privacy_conversations.target END,"
    "  last_seen = CASE WHEN excluded.last_seen > privacy_conversations.last_seen"
    "              THEN excluded.last_seen ELSE privacy_conversations.last_seen END,"
    "  change = excluded.change";

std::string_view AsView(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Clients trim.
std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

crypto::Digest DigestOf(const Message& message) {
  crypto::Sha256 sha;
  const auto add = [&](std::string_view text) {
    sha.Update(std::to_string(text.size()));
    sha.Update(":");
    sha.Update(text);
  };
  // A developer's message is what a system's was called before, and the like: only these matter.
  add(message.role);
  add(Trimmed(message.content));
  for (const ToolCall& call : message.tool_calls) {
    add(call.name);
    add(Trimmed(call.arguments));
  }
  return sha.Finish();
}

Result<std::string> ReadOrMakeSecret(store::Database* database) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database->BeginWrite());
  TANDEM_ASSIGN_OR_RETURN(
      const std::optional<std::string> hex,
      transaction.QueryOne<std::string>("SELECT secret FROM privacy_secret", {},
                                        [](const store::Row& row) { return row.Text(0); }));
  if (hex) {
    auto secret = crypto::FromHex(*hex);
    if (!secret || secret->size() != kSecretBytes) {
      return Err(
          ErrorCode::kCorrupt,
          "the table privacy_secret does not hold {} hexadecimal digits; restore the database "
          "from a backup",
          2 * kSecretBytes);
    }
    return *std::move(secret);
  }
  std::array<uint8_t, kSecretBytes> secret;
  crypto::RandomBytes(secret);
  TANDEM_RETURN_IF_ERROR(transaction.Execute("INSERT INTO privacy_secret (secret) VALUES ($1)",
                                             {crypto::Hex(secret)}));
  TANDEM_RETURN_IF_ERROR(transaction.Commit());
  return std::string(AsView(secret));
}

}  // namespace

size_t Conversations::DigestHash::operator()(const Digest& digest) const {
  size_t hash = 0;
  std::memcpy(&hash, digest.data(), sizeof(hash));  // uniform already
  return hash;
}

Conversations::Conversations(store::Database* database, std::string secret, const Clock* clock,
                             Options options)
    : database_(database), secret_(std::move(secret)), clock_(clock), options_(options) {}

Result<std::unique_ptr<Conversations>> Conversations::Open(store::Database* database,
                                                           const Clock* clock, Options options) {
  TANDEM_RETURN_IF_ERROR(database->Migrate("privacy", kMigrations));
  TANDEM_ASSIGN_OR_RETURN(std::string secret, ReadOrMakeSecret(database));
  auto conversations = std::unique_ptr<Conversations>(
      new Conversations(database, std::move(secret), clock, options));
  TANDEM_RETURN_IF_ERROR(conversations->Load());
  conversations->writer_ = std::jthread(
      [self = conversations.get()](const std::stop_token& stop) { self->RunWriter(stop); });
  return conversations;
}

Conversations::~Conversations() {
  writer_.request_stop();
  queue_.Close();
  if (writer_.joinable()) writer_.join();
}

Status Conversations::Load() {
  const int64_t now = UnixSeconds(clock_->SystemNow());
  const int64_t oldest = now - std::chrono::seconds(options_.ttl).count();
  TANDEM_RETURN_IF_ERROR(
      database_->Execute("DELETE FROM privacy_conversations WHERE last_seen < $1", {oldest}));
  TANDEM_RETURN_IF_ERROR(ReadSince(&followed_));
  std::lock_guard lock(mutex_);
  EvictLocked(now);
  return {};
}

Status Conversations::ReadSince(int64_t* change) {
  bool corrupt = false;
  int64_t last = *change;
  std::vector<Row> rows;
  TANDEM_RETURN_IF_ERROR(database_->ForEach(
      "SELECT digest, privacy, target, last_seen, change FROM privacy_conversations "
      "WHERE change > $1",
      {*change}, [&](const store::Row& row) {
        const Result<std::string> bytes = crypto::FromHex(row.Text(0));
        const int64_t privacy = row.Int(1);
        Digest digest;
        if (!bytes || bytes->size() != digest.size() || privacy < 0 ||
            privacy > static_cast<int64_t>(Privacy::kOnDevice)) {
          corrupt = true;
          return;
        }
        std::ranges::copy(*bytes, digest.begin());
        rows.push_back(
            {digest, {{static_cast<Privacy>(privacy), row.Text(2)}, row.Int(3), row.Int(3)}});
        last = std::max(last, row.Int(4));
      }));
  if (corrupt) {
    return Err(
        ErrorCode::kCorrupt,
        "the table privacy_conversations holds a row that is none; restore the database from "
        "a backup");
  }
  std::lock_guard lock(mutex_);
  for (Row& row : rows) {
    Entry& entry = entries_[row.digest];
    entry.state.privacy = std::max(entry.state.privacy, row.entry.state.privacy);
    if (!row.entry.state.target.empty()) entry.state.target = std::move(row.entry.state.target);
    entry.last_seen = std::max(entry.last_seen, row.entry.last_seen);
    entry.stored_at = std::max(entry.stored_at, row.entry.stored_at);
  }
  *change = last;
  return {};
}

Status Conversations::Follow() {
  if (!database_->shared()) return {};
  std::lock_guard one_at_a_time(follow_mutex_);
  TANDEM_RETURN_IF_ERROR(ReadSince(&followed_));
  std::lock_guard lock(mutex_);
  EvictLocked(UnixSeconds(clock_->SystemNow()));
  return {};
}

Conversations::Digest Conversations::Keyed(char purpose, std::string_view scope,
                                           std::string_view content) const {
  std::string message(1, purpose);
  message += std::to_string(scope.size());
  message += ':';
  message += scope;
  message += content;
  const crypto::Digest whole = crypto::HmacSha256(secret_, message);
  Digest digest;
  std::copy_n(whole.begin(), digest.size(), digest.begin());
  return digest;
}

Conversations::Fingerprint Conversations::FingerprintOf(std::string_view scope, std::string_view id,
                                                        std::span<const Message> messages) const {
  Fingerprint fingerprint;
  fingerprint.scope = scope;
  if (!id.empty()) fingerprint.id = Keyed('i', scope, id);
  size_t n_bytes = 0;  // of users and tools so far
  bool begun = false;
  bool answered = false;
  for (const Message& message : messages) {
    const bool user = message.role == "user";
    const bool tool = message.role == "tool";
    begun |= user;
    if (!begun) continue;
    const std::string_view content = Trimmed(message.content);
    const crypto::Digest digest = DigestOf(message);
    if (user || tool) n_bytes += content.size();
    answered |= message.role == "assistant";
    fingerprint.last =
        Keyed('c', scope, std::string(AsView(fingerprint.last)) + std::string(AsView(digest)));
    fingerprint.identified = answered || n_bytes >= kMinIdentifyingBytes;
    if (fingerprint.identified) fingerprint.chain.push_back(fingerprint.last);
    if ((tool && content.size() >= kMinToolResultBytes) ||
        (message.role == "assistant" && content.size() >= kMinAnswerBytes)) {
      fingerprint.items.push_back(Keyed('t', scope, content));
    }
  }
  return fingerprint;
}

std::optional<ConversationState> Conversations::Find(const Fingerprint& fingerprint) {
  const int64_t now = UnixSeconds(clock_->SystemNow());
  const int64_t oldest = now - std::chrono::seconds(options_.ttl).count();
  std::optional<ConversationState> found;
  std::lock_guard lock(mutex_);
  const auto look_up = [&](const Digest& digest, bool takes_target) {
    const auto entry = entries_.find(digest);
    if (entry == entries_.end() || entry->second.last_seen < oldest) return;
    entry->second.last_seen = now;
    if (now - entry->second.stored_at >= kSecondsPerDay) {
      entry->second.stored_at = now;
      queue_.TryPush({digest, entry->second});
    }
    if (!found) found.emplace();
    const ConversationState& state = entry->second.state;
    found->privacy = std::max(found->privacy, state.privacy);
    if (takes_target && found->target.empty()) found->target = state.target;
  };
  if (fingerprint.id) look_up(*fingerprint.id, true);
  for (size_t i = fingerprint.chain.size(); i-- > 0;) look_up(fingerprint.chain[i], true);
  for (const Digest& item : fingerprint.items) look_up(item, false);
  return found;
}

Status Conversations::Remember(const Fingerprint& fingerprint, const ConversationState& state) {
  std::vector<Digest> digests;
  if (fingerprint.id) digests.push_back(*fingerprint.id);
  if (fingerprint.identified) digests.push_back(fingerprint.last);
  if (state.privacy == Privacy::kOnDevice) {
    digests.insert(digests.end(), fingerprint.items.begin(), fingerprint.items.end());
  }
  return RememberAll(digests, state);
}

Status Conversations::RememberAnswer(const Fingerprint& fingerprint, const Message& answer,
                                     const ConversationState& state) {
  std::vector<Digest> digests;
  if (fingerprint.id) digests.push_back(*fingerprint.id);
  const crypto::Digest digest = DigestOf(answer);
  digests.push_back(Keyed('c', fingerprint.scope,
                          std::string(AsView(fingerprint.last)) + std::string(AsView(digest))));
  const std::string_view content = Trimmed(answer.content);
  if (state.privacy == Privacy::kOnDevice && content.size() >= kMinAnswerBytes) {
    digests.push_back(Keyed('t', fingerprint.scope, content));
  }
  return RememberAll(digests, state);
}

Status Conversations::RememberAll(std::span<const Digest> digests, const ConversationState& state) {
  if (state.privacy == Privacy::kAny && state.target.empty()) return {};
  const int64_t now = UnixSeconds(clock_->SystemNow());
  std::vector<Row> stricter;
  {
    std::lock_guard lock(mutex_);
    for (const Digest& digest : digests) {
      Entry& entry = entries_[digest];
      const bool raised = state.privacy > entry.state.privacy;
      const bool moved = !state.target.empty() && state.target != entry.state.target;
      if (raised) entry.state.privacy = state.privacy;
      if (moved) entry.state.target = state.target;
      entry.last_seen = now;
      if (!raised && !moved && now - entry.stored_at < kSecondsPerDay) continue;
      entry.stored_at = now;
      if (raised) {
        stricter.push_back({digest, entry});
      } else {
        queue_.TryPush({digest, entry});
      }
    }
    if (entries_.size() > options_.max_entries) EvictLocked(now);
  }
  return stricter.empty() ? Status() : Write(stricter);
}

void Conversations::EvictLocked(int64_t now) {
  if (entries_.size() <= options_.max_entries) return;
  // A tenth more than necessary, so that it is rare.
  const size_t keep = options_.max_entries - options_.max_entries / 10;
  size_t excess = entries_.size() - keep;
  for (const bool marks : {false, true}) {
    std::vector<std::pair<int64_t, Digest>> oldest;
    for (const auto& [digest, entry] : entries_) {
      if ((entry.state.privacy > Privacy::kAny) == marks)
        oldest.emplace_back(entry.last_seen, digest);
    }
    const size_t n = std::min(excess, oldest.size());
    if (n == 0) continue;
    std::ranges::nth_element(oldest, oldest.begin() + static_cast<std::ptrdiff_t>(n - 1));
    if (marks) {
      log::Warning(
          "privacy: {} conversations that had to stay on the device, unused for {} days and "
          "more, are forgotten: there are more than {}",
          n, (now - oldest[n - 1].first) / kSecondsPerDay, options_.max_entries);
    }
    const int64_t cutoff = oldest[n - 1].first;
    for (size_t i = 0; i < n; ++i) entries_.erase(oldest[i].second);
    // On disk by age alone; what this leaves too much goes when it is loaded.
    const Result<int64_t> deleted = database_->Execute(
        marks ? "DELETE FROM privacy_conversations WHERE privacy > 0 AND last_seen < $1"
              : "DELETE FROM privacy_conversations WHERE privacy = 0 AND last_seen < $1",
        {cutoff});
    if (!deleted) log::Warning("privacy: old conversations stay: {}", deleted.error().message);
    excess -= n;
    if (excess == 0) return;
  }
}

Status Conversations::Write(std::span<const Row> rows) {
  TANDEM_ASSIGN_OR_RETURN(store::Transaction transaction, database_->BeginWrite());
  int64_t change = 1;
  if (database_->shared()) {  // a node alone has nobody to tell
    TANDEM_RETURN_IF_ERROR(transaction.Execute("UPDATE privacy_changes SET number = number + 1"));
    TANDEM_RETURN_IF_ERROR(
        transaction.ForEach("SELECT number FROM privacy_changes", {},
                            [&](const store::Row& row) { change = row.Int(0); }));
  }
  for (const Row& row : rows) {
    TANDEM_RETURN_IF_ERROR(transaction.Execute(
        kUpsert, {crypto::Hex(row.digest), static_cast<int64_t>(row.entry.state.privacy),
                  row.entry.state.target, row.entry.last_seen, change}));
  }
  return transaction.Commit();
}

void Conversations::RunWriter(const std::stop_token& stop) {
  while (std::optional<Row> row = queue_.Pop()) {
    {
      // A transaction for each pin would cost more than the request that it is of.
      std::unique_lock lock(pause_mutex_);
      pause_.wait_for(lock, stop, kBatchInterval, [] { return false; });
    }
    std::vector<Row> rows;
    rows.push_back(*std::move(row));
    while (rows.size() < kMaxQueued && (row = queue_.TryPop())) rows.push_back(*std::move(row));
    if (const Status status = Write(rows); !status) {
      log::Warning("privacy: {} pins of conversations are not kept: {}", rows.size(),
                   status.error().message);
    }
  }
}

size_t Conversations::size() const {
  std::lock_guard lock(mutex_);
  return entries_.size();
}

}  // namespace tandem::gateway::privacy
