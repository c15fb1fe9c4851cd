// A configuration file as a tree of values that know where they stand, the same for TOML and JSON,
// so that one reader binds both and every complaint names line and column.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"

namespace tandem::app {

// Both count from 1, columns in code points; 0: it does not come from a text.
struct DocumentPosition {
  uint32_t line = 0;
  uint32_t column = 0;
  friend auto operator<=>(const DocumentPosition&, const DocumentPosition&) = default;
};

struct DocumentMember;

struct DocumentNode {
  using Array = std::vector<DocumentNode>;
  using Table = std::vector<DocumentMember>;  // in the order of the text
  // What no field takes: JSON's null, TOML's dates.
  struct Other {
    std::string_view name;  // "null", "a date"
  };

  std::variant<Other, bool, int64_t, double, std::string, Array, Table> value;
  DocumentPosition at = {};
};

struct DocumentMember {
  std::string key;
  DocumentNode value;
  DocumentPosition at = {};  // of the key
};

// "a string", "a whole number", "a table", ...: for "must be X, not Y".
std::string_view DocumentKindName(const DocumentNode& node);

// Null where there is none of that name.
const DocumentNode* FindMember(const DocumentNode::Table& table, std::string_view key);

// Limits that keep a hostile file from costing much: nothing that a person writes comes near them.
inline constexpr size_t kMaxDocumentBytes = size_t{1} << 20;
inline constexpr int kMaxDocumentDepth = 16;
// Of one line: each may open a table in a table, in a key that has several parts.
inline constexpr int kMaxDotsInALine = 200;

// The root is a table. JSON is taken for what begins with '{', which TOML never does.
// Errors: kInvalidArgument with "FILE:LINE:COLUMN: what is wrong" for what is neither, is not
// UTF-8,
//   has a key twice, or exceeds a limit.
// Cost: linear in the text.
Result<DocumentNode> ParseDocument(std::string_view text, std::string_view file_name);
Result<DocumentNode> ParseTomlDocument(std::string_view text, std::string_view file_name);
Result<DocumentNode> ParseJsonDocument(std::string_view text, std::string_view file_name);

// Comments behind the values and the headers of tables, by path ("upstream[0].base_url",
// "upstream[0]"); empty: none.
class DocumentComments {
 public:
  virtual ~DocumentComments() = default;
  virtual std::string ForValue(std::string_view path) const = 0;
  virtual std::string ForTable(std::string_view path) const = 0;
};

// What ParseDocument reads back as the same tree. `comments` may be null.
std::string FormatTomlDocument(const DocumentNode::Table& root, const DocumentComments* comments);
std::string FormatJsonDocument(const DocumentNode::Table& root);

// One value on one line, as TOML writes it; also for a message.
std::string FormatDocumentValue(const DocumentNode& node);

// Every value that is no table and no array of tables, with its path, in the order of the tree.
std::vector<std::pair<std::string, DocumentNode>> FlattenDocument(const DocumentNode::Table& root);

}  // namespace tandem::app
