// write_seeds TARGET DIRECTORY: the seeds of a fuzz target, as files.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "fuzz/seeds.h"

int main(int argc, char** argv) {
  using namespace nd::soft;
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s wire|rc|cm|ucma|frames DIRECTORY\n",
                 argv[0]);
    return 2;
  }
  const std::string target = argv[1];
  std::vector<FuzzInput> seeds;
  if (target == "wire") seeds = WireSeeds();
  if (target == "rc") seeds = RcSeeds();
  if (target == "cm") seeds = CmSeeds();
  if (target == "frames") seeds = FrameSeeds();
  std::filesystem::create_directories(argv[2]);
  for (size_t i = 0; i < seeds.size(); ++i) {
    std::ofstream(std::filesystem::path(argv[2]) / std::to_string(i),
                  std::ios::binary)
        .write(reinterpret_cast<const char*>(seeds[i].data()),
               static_cast<std::streamsize>(seeds[i].size()));
  }
}
