#include "fleet/deploy/verdicts.h"

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

#include <boost/json.hpp>

#include "base/log.h"
#include "fleet/json/fields.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;

constexpr int kFormat = 1;
constexpr size_t kMaxFileBytes = size_t{4} << 20;

constexpr std::array<std::pair<Finding, std::string_view>, 10> kNames{{
    {Finding::kPassed, "passed"},
    {Finding::kWrong, "wrong_answers"},
    {Finding::kNotFinite, "not_finite"},
    {Finding::kSlow, "slower_than_cpu"},
    {Finding::kHung, "hung"},
    {Finding::kCrashed, "crashed"},
    {Finding::kOutOfMemory, "out_of_memory"},
    {Finding::kContextFailed, "context_failed"},
    {Finding::kUnsupported, "unsupported"},
    {Finding::kKilledProcess, "killed_the_process"},
}};

json::object KeyToJson(const VerdictKey& key) {
  return {{"device", key.device},
          {"driver_digest", key.driver_digest},
          {"driver_version", key.driver_version},
          {"system", key.system},
          {"package_digest", key.package_digest}};
}

json::object ToJson(const Verdict& verdict) {
  json::object object = KeyToJson(verdict.key);
  object["driver"] = verdict.driver;
  object["finding"] = FindingName(verdict.finding);
  object["reason"] = verdict.reason;
  object["relative_error"] = verdict.relative_error;
  object["error_bound"] = verdict.error_bound;
  object["decode_tokens_per_second"] = verdict.decode_tokens_per_second;
  object["cpu_decode_tokens_per_second"] = verdict.cpu_decode_tokens_per_second;
  object["at_s"] = verdict.at_s;
  return object;
}

VerdictKey ReadKey(JsonFields& fields) {
  return {.device = fields.Text("device"),
          .driver_digest = fields.Text("driver_digest", JsonFields::kRequired),
          .driver_version = fields.Text("driver_version"),
          .system = fields.Text("system"),
          .package_digest = fields.Text("package_digest", JsonFields::kRequired)};
}

Result<Verdict> ReadVerdict(const json::value& value) {
  JsonFields fields(value, "a verdict");
  Verdict verdict;
  verdict.key = ReadKey(fields);
  verdict.driver = fields.Text("driver");
  const std::string finding = fields.Text("finding", JsonFields::kRequired);
  if (const auto parsed = ParseFinding(finding)) {
    verdict.finding = *parsed;
  } else {
    fields.Fail("finding", "is a word that this version does not know");
  }
  verdict.reason = fields.Text("reason");
  verdict.relative_error = fields.Real("relative_error").value_or(0);
  verdict.error_bound = fields.Real("error_bound").value_or(0);
  verdict.decode_tokens_per_second = fields.Real("decode_tokens_per_second").value_or(0);
  verdict.cpu_decode_tokens_per_second = fields.Real("cpu_decode_tokens_per_second").value_or(0);
  verdict.at_s = static_cast<int64_t>(fields.Number("at_s").value_or(0));
  TANDEM_RETURN_IF_ERROR(fields.Done());
  return verdict;
}

Result<std::vector<Verdict>> ReadVerdicts(const std::filesystem::path& file) {
  std::vector<Verdict> verdicts;
  const auto text = os::ReadFile(file, kMaxFileBytes);
  if (!text && text.error().code == ErrorCode::kNotFound) return verdicts;
  if (!text) return std::unexpected(text.error());
  TANDEM_ASSIGN_OR_RETURN(const json::value document, ParseJson(*text, file.string()));
  JsonFields fields(document, file.string());
  if (fields.Number("format", JsonFields::kRequired) != kFormat) {
    fields.Fail("format", "is not one that this version reads");
  }
  const auto list = fields.List("verdicts", JsonFields::kRequired);
  TANDEM_RETURN_IF_ERROR(fields.Done());
  for (const json::value* value : list) {
    TANDEM_ASSIGN_OR_RETURN(Verdict verdict, ReadVerdict(*value));
    verdicts.push_back(std::move(verdict));
  }
  return verdicts;
}

// A file name for a key. Two keys with one name would only wait for each other.
std::string MarkName(const VerdictKey& key) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const std::string* part :
       {&key.device, &key.driver_digest, &key.driver_version, &key.system, &key.package_digest}) {
    for (const char c : *part) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    hash = (hash ^ 0xFF) * 0x100000001b3;
  }
  return fmt::format("use-{:016x}", hash);
}

void PutInto(Verdict verdict, std::vector<Verdict>* verdicts) {
  const auto same = std::ranges::find(*verdicts, verdict.key, &Verdict::key);
  if (same != verdicts->end()) {
    *same = std::move(verdict);
  } else {
    verdicts->push_back(std::move(verdict));
  }
}

}  // namespace

std::string_view FindingName(Finding finding) {
  return std::ranges::find(kNames, finding, [](const auto& name) { return name.first; })->second;
}

std::optional<Finding> ParseFinding(std::string_view name) {
  const auto found = std::ranges::find(kNames, name, [](const auto& pair) { return pair.second; });
  if (found == kNames.end()) return std::nullopt;
  return found->first;
}

Result<std::unique_ptr<Verdicts>> Verdicts::Open(std::filesystem::path directory, int64_t now_s) {
  TANDEM_RETURN_IF_ERROR(os::MakeDirectories(directory));
  std::unique_ptr<Verdicts> verdicts(new Verdicts(std::move(directory)));
  TANDEM_RETURN_IF_ERROR(verdicts->Load());
  TANDEM_RETURN_IF_ERROR(verdicts->TakeMarks(now_s));
  return verdicts;
}

Status Verdicts::Load() {
  auto read = ReadVerdicts(file());
  if (!read && read.error().code == ErrorCode::kCorrupt) {
    std::filesystem::path aside = file();
    aside += ".damaged";
    log::Warning("{}; it is kept as {}, and accelerators are tested again", read.error().message,
                 aside.string());
    std::error_code error;
    std::filesystem::rename(file(), aside, error);
    if (error) return ErrnoError(error.value(), aside.string());
    read = std::vector<Verdict>();
  }
  if (!read) return std::unexpected(read.error());
  const std::lock_guard lock(mutex_);
  verdicts_ = *std::move(read);
  return {};
}

Status Verdicts::TakeMarks(int64_t now_s) {
  std::error_code error;
  std::vector<std::filesystem::path> marks;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, error)) {
    if (entry.path().filename().string().starts_with("use-")) marks.push_back(entry.path());
  }
  if (error) return ErrnoError(error.value(), directory_.string());
  for (const std::filesystem::path& mark : marks) {
    const auto lock = os::FileLock::TryAcquire(mark);
    if (!lock) continue;  // that process lives
    // An empty mark is of a process that died before it used anything.
    const auto text = os::ReadFile(mark, kMaxFileBytes);
    if (text && !text->empty()) {
      if (const auto value = ParseJson(*text, mark.string())) {
        JsonFields fields(*value, mark.string());
        Verdict verdict{.key = ReadKey(fields)};
        verdict.driver = fields.Text("driver");
        verdict.finding = Finding::kKilledProcess;
        verdict.reason = "the process died while this executor served";
        verdict.at_s = now_s;
        if (fields.Done()) TANDEM_RETURN_IF_ERROR(Put(std::move(verdict)));
      }
    }
    std::filesystem::remove(mark, error);
  }
  return {};
}

template <typename Change>
Status Verdicts::Update(Change change) {
  const std::lock_guard lock(mutex_);
  TANDEM_ASSIGN_OR_RETURN(const auto file_lock, os::FileLock::Acquire(directory_ / "lock"));
  if (auto others = ReadVerdicts(file())) verdicts_ = *std::move(others);
  change(&verdicts_);
  json::array list;
  for (const Verdict& verdict : verdicts_) list.push_back(ToJson(verdict));
  const json::object document{{"format", kFormat}, {"verdicts", std::move(list)}};
  return os::WriteFileAtomic(file(), json::serialize(document) + "\n");
}

std::optional<Verdict> Verdicts::Find(const VerdictKey& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(verdicts_, key, &Verdict::key);
  if (found == verdicts_.end()) return std::nullopt;
  return *found;
}

std::vector<Verdict> Verdicts::List() const {
  const std::lock_guard lock(mutex_);
  return verdicts_;
}

Status Verdicts::Put(Verdict verdict) {
  return Update([&](std::vector<Verdict>* verdicts) { PutInto(std::move(verdict), verdicts); });
}

Result<int> Verdicts::Forget(const std::filesystem::path& driver) {
  int n = 0;
  TANDEM_RETURN_IF_ERROR(Update([&](std::vector<Verdict>* verdicts) {
    n = static_cast<int>(std::erase_if(
        *verdicts, [&](const Verdict& verdict) { return verdict.driver == driver.string(); }));
  }));
  return n;
}

Verdicts::Use& Verdicts::Use::operator=(Use&& other) noexcept {
  if (this == &other) return *this;
  End();
  lock_ = std::exchange(other.lock_, std::nullopt);
  mark_ = std::move(other.mark_);
  return *this;
}

void Verdicts::Use::End() {
  if (!lock_ || mark_.empty()) return;
  // First the name, then the lock: who opens it in between finds nothing.
  std::error_code error;
  std::filesystem::remove(mark_, error);
  lock_.reset();
}

Result<Verdicts::Use> Verdicts::BeginUse(const VerdictKey& key,
                                         const std::filesystem::path& driver) {
  const std::filesystem::path mark = directory_ / MarkName(key);
  auto lock = os::FileLock::TryAcquire(mark);
  if (!lock && lock.error().code == ErrorCode::kUnavailable) {
    return Err(ErrorCode::kAlreadyExists, "another process uses {} for the same package",
               driver.string());
  }
  if (!lock) return std::unexpected(lock.error());
  Use use(*std::move(lock), mark);
  json::object object = KeyToJson(key);
  object["driver"] = driver.string();
  // In place: the lock is on this file.
  TANDEM_ASSIGN_OR_RETURN(auto file, os::OutputFile::Open(mark, os::OutputFile::Mode::kTruncate));
  TANDEM_RETURN_IF_ERROR(file.Append(json::serialize(object)));
  TANDEM_RETURN_IF_ERROR(file.Sync());
  TANDEM_RETURN_IF_ERROR(file.Close());
  return use;
}

}  // namespace tandem::fleet
