#include "gateway/auth/schema.h"

namespace tandem::gateway::auth {
namespace {

// Digests are hexadecimal text: the type of bytes is where the databases differ. Truth is 0 or 1.
// Times are seconds since 1970, those of the audit log milliseconds.
constexpr store::Migration kMigrations[] = {
    {"api_keys",
     "CREATE TABLE api_keys ("
     "  id TEXT PRIMARY KEY,"
     "  name TEXT NOT NULL,"
     "  digest TEXT NOT NULL,"
     "  created_at BIGINT NOT NULL,"
     "  revoked_at BIGINT"
     ");"
     "CREATE UNIQUE INDEX api_keys_name_in_force ON api_keys (name) WHERE revoked_at IS NULL;"
     // One row: a number that every change raises.
     "CREATE TABLE api_keys_version (version BIGINT NOT NULL);"
     "INSERT INTO api_keys_version VALUES (0);"},
    {"key_policies",
     "ALTER TABLE api_keys ADD COLUMN account TEXT NOT NULL DEFAULT '';"
     "ALTER TABLE api_keys ADD COLUMN models TEXT NOT NULL DEFAULT '';"  // by commas; empty: all
     "ALTER TABLE api_keys ADD COLUMN device INTEGER NOT NULL DEFAULT 1;"
     "ALTER TABLE api_keys ADD COLUMN cloud INTEGER NOT NULL DEFAULT 1;"
     "ALTER TABLE api_keys ADD COLUMN privacy TEXT NOT NULL DEFAULT 'any';"
     "ALTER TABLE api_keys ADD COLUMN budget_nano_usd BIGINT;"
     "ALTER TABLE api_keys ADD COLUMN budget_period TEXT;"
     "ALTER TABLE api_keys ADD COLUMN scope_chat INTEGER NOT NULL DEFAULT 1;"
     "ALTER TABLE api_keys ADD COLUMN scope_admin INTEGER NOT NULL DEFAULT 0;"
     "ALTER TABLE api_keys ADD COLUMN expires_at BIGINT;"
     "ALTER TABLE api_keys ADD COLUMN superseded_by TEXT;"
     "ALTER TABLE api_keys ADD COLUMN overlap_ends_at BIGINT;"
     "UPDATE api_keys SET account = id;"
     // During an overlap the old and the new key have the same name.
     "DROP INDEX api_keys_name_in_force;"
     "CREATE UNIQUE INDEX api_keys_name_in_force ON api_keys (name)"
     "  WHERE revoked_at IS NULL AND superseded_by IS NULL;"},
    {"audit_log",
     "CREATE TABLE audit_log ("
     "  number BIGINT PRIMARY KEY,"
     "  at_ms BIGINT NOT NULL,"
     "  action TEXT NOT NULL,"
     "  who TEXT NOT NULL,"
     "  subject TEXT NOT NULL,"
     "  detail TEXT NOT NULL,"
     "  digest TEXT NOT NULL"
     ");"
     // One row: the last record, so that one removed from the end is missed.
     "CREATE TABLE audit_head (number BIGINT NOT NULL, digest TEXT NOT NULL);"
     "INSERT INTO audit_head VALUES (0, '');"},
    // One row once a pepper is known: an HMAC with it, by which nodes that share this database find
    // out whether theirs is the same.
    {"pepper_proof", "CREATE TABLE api_keys_pepper (proof TEXT NOT NULL);"},
    // Of budgets that several nodes spend: what they took out. Month 0: for ever.
    {"budget_taken",
     "CREATE TABLE budget_taken ("
     "  account TEXT NOT NULL,"
     "  month BIGINT NOT NULL,"
     "  nano_usd BIGINT NOT NULL,"
     "  PRIMARY KEY (account, month)"
     ");"},
};

}  // namespace

Status MigrateAuth(store::Database* database) { return database->Migrate("auth", kMigrations); }

}  // namespace tandem::gateway::auth
