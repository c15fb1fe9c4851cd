// The two visitors of configuration_schema.h: from a document's table to structures, and back.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "app/configuration.h"
#include "app/configuration_issues.h"

namespace tandem::app::schema {

template <typename T>
inline constexpr bool kIsOptional = false;
template <typename T>
inline constexpr bool kIsOptional<std::optional<T>> = true;

// Where a value is read: complaints go to `issues`.
struct Place {
  ConfigurationIssues* issues;
  std::string_view file;
  std::string path;

  bool Complain(const DocumentNode& node, std::string_view message) const {
    issues->Add(file, node.at, path, message);
    return false;
  }
  bool Mismatch(const DocumentNode& node, std::string_view wanted) const {
    return Complain(node, fmt::format("must be {}, not {}", wanted, DocumentKindName(node)));
  }
};

// What all tables of one document share.
struct ReadContext {
  std::string_view file;
  Origin::Kind kind;
  ConfigurationIssues* issues;
  std::map<std::string, Origin, std::less<>>* origins;

  void Note(const std::string& path, DocumentPosition at) const {
    (*origins)[path] = Origin{kind, std::string(file), at};
  }
};

// Fills the members that a table has. What it has beyond them is a complaint.
class TableReader {
 public:
  // Both outlive the reader.
  TableReader(const ReadContext* context, const DocumentNode* node, std::string path)
      : context_(context),
        node_(node),
        table_(std::get<DocumentNode::Table>(node->value)),
        path_(std::move(path)) {}

  template <typename T, typename Codec>
  void Field(std::string_view name, T& member, const Codec& codec) {
    const DocumentNode* node = Find(name);
    if (node == nullptr) return;
    const Place place{context_->issues, context_->file, Join(name)};
    if constexpr (kIsOptional<T>) {
      typename T::value_type value{};
      if (codec.Read(place, *node, &value)) member = std::move(value);
    } else {
      codec.Read(place, *node, &member);
    }
    context_->Note(place.path, node->at);
  }

  template <typename T, typename Codec>
  void Required(std::string_view name, T& member, const Codec& codec, std::string_view example) {
    const size_t known = known_.size();
    Field(name, member, codec);
    if (FindMember(table_, known_[known]) == nullptr) {
      context_->issues->Add(context_->file, node_->at, path_,
                            fmt::format("'{0}' is missing; write {0} = {1}", name, example));
    }
  }

  template <typename T, typename Describe>
  void Section(std::string_view name, T& member, const Describe& describe) {
    if (const DocumentNode* node = Find(name)) ReadTable(*node, Join(name), member, describe);
  }

  template <typename T, typename Describe>
  void OptionalSection(std::string_view name, std::optional<T>& member, const Describe& describe) {
    const DocumentNode* node = Find(name);
    if (node == nullptr) return;
    member.emplace();
    ReadTable(*node, Join(name), *member, describe);
  }

  template <typename T, typename Describe>
  void List(std::string_view name, std::vector<T>& member, const Describe& describe) {
    constexpr size_t kMaxCount = 256;
    const DocumentNode* node = Find(name);
    if (node == nullptr) return;
    const std::string path = Join(name);
    const Place place{context_->issues, context_->file, path};
    const auto* array = std::get_if<DocumentNode::Array>(&node->value);
    if (array == nullptr) {
      place.Mismatch(*node, fmt::format("a list of tables: write [[{}]]", path));
      return;
    }
    if (array->size() > kMaxCount) {
      place.Complain(*node, fmt::format("has {} entries; at most {}", array->size(), kMaxCount));
      return;
    }
    member.resize(array->size());
    for (size_t i = 0; i < array->size(); ++i) {
      ReadTable((*array)[i], fmt::format("{}[{}]", path, i), member[i], describe);
    }
  }

  void Forbidden(std::string_view name, std::string_view what_to_write) {
    // Not among the suggestions, and its value is in no message.
    const auto found = std::ranges::find(table_, name, &DocumentMember::key);
    if (found == table_.end()) return;
    forbidden_.push_back(name);
    context_->issues->Add(context_->file, found->at, Join(name), what_to_write);
  }

  // After every member was described.
  void Finish() const {
    for (const DocumentMember& member : table_) {
      if (context_->issues->full()) return;
      if (std::ranges::find(known_, member.key) != known_.end() ||
          std::ranges::find(forbidden_, member.key) != forbidden_.end()) {
        continue;
      }
      context_->issues->Add(
          context_->file, member.at, path_,
          fmt::format("unknown key {}{}", Quoted(member.key), Suggestion(member.key, known_)));
    }
  }

 private:
  template <typename T, typename Describe>
  void ReadTable(const DocumentNode& node, const std::string& path, T& member,
                 const Describe& describe) {
    if (!std::holds_alternative<DocumentNode::Table>(node.value)) {
      Place{context_->issues, context_->file, path}.Mismatch(node, "a table");
      return;
    }
    context_->Note(path, node.at);
    TableReader reader(context_, &node, path);
    describe(reader, member);
    reader.Finish();
  }

  const DocumentNode* Find(std::string_view name) {
    known_.push_back(name);
    return FindMember(table_, name);
  }
  std::string Join(std::string_view name) const {
    return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
  }

  const ReadContext* const context_;
  const DocumentNode* const node_;
  const DocumentNode::Table& table_;
  const std::string path_;
  std::vector<std::string_view> known_;
  std::vector<std::string_view> forbidden_;
};

class TableWriter {
 public:
  template <typename T, typename Codec>
  void Field(std::string_view name, const T& member, const Codec& codec) {
    if constexpr (kIsOptional<T>) {
      if (member) Add(name, codec.Write(*member));
    } else {
      Add(name, codec.Write(member));
    }
  }
  template <typename T, typename Codec>
  void Required(std::string_view name, const T& member, const Codec& codec, std::string_view) {
    Field(name, member, codec);
  }
  template <typename T, typename Describe>
  void Section(std::string_view name, const T& member, const Describe& describe) {
    Add(name, {.value = Table(member, describe)});
  }
  template <typename T, typename Describe>
  void OptionalSection(std::string_view name, const std::optional<T>& member,
                       const Describe& describe) {
    if (member) Add(name, {.value = Table(*member, describe)});
  }
  template <typename T, typename Describe>
  void List(std::string_view name, const std::vector<T>& member, const Describe& describe) {
    if (member.empty()) return;
    DocumentNode::Array array;
    for (const T& element : member) array.push_back({.value = Table(element, describe)});
    Add(name, {.value = std::move(array)});
  }
  void Forbidden(std::string_view, std::string_view) {}

  DocumentNode::Table Take() { return std::move(table_); }

 private:
  template <typename T, typename Describe>
  static DocumentNode::Table Table(const T& member, const Describe& describe) {
    TableWriter writer;
    describe(writer, member);
    return writer.Take();
  }
  void Add(std::string_view name, DocumentNode node) {
    table_.push_back({std::string(name), std::move(node)});
  }

  DocumentNode::Table table_;
};

}  // namespace tandem::app::schema
