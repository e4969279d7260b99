// The options and the manual page of each subcommand.
#ifndef ND_NDPING_CLI_SUBCOMMANDS_H_
#define ND_NDPING_CLI_SUBCOMMANDS_H_

#include <CLI/CLI.hpp>
#include <string>

#include "ndping/cli/cli.h"

namespace nd::ndping {

// Each adds a subcommand to `app` that parses into the last argument, which
// must live until the parsing is done.
void AddTest(CLI::App& app, TestOptions& options);  // the one options.test says
void AddServer(CLI::App& app, ServerCommand& command);
void AddPing(CLI::App& app, PingCommand& command);
void AddKrping(CLI::App& app, KrpingCommand& command);
void AddRegister(CLI::App& app, RegisterCommand& command);
void AddDevices(CLI::App& app, DevicesCommand& command);
void AddDoctor(CLI::App& app, DoctorCommand& command);
void AddExplain(CLI::App& app, ExplainCommand& command);
void AddInfo(CLI::App& app, InfoCommand& command);

// What several subcommands share.
void AddServerAddress(CLI::App& app, HarnessClient::Options& server);
void AddFrom(CLI::App& app, std::string& from);
// `figures`: what --fail-if can name.
void AddOutput(CLI::App& app, OutputOptions& output, const Figures& figures);

}  // namespace nd::ndping

#endif  // ND_NDPING_CLI_SUBCOMMANDS_H_
