#include "control/certificates.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace nd::control {
namespace {

struct Free {
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(X509_EXTENSION* p) const { X509_EXTENSION_free(p); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

// A test cannot go on without.
template <typename T>
T Must(T result) {
  if (!result) std::abort();
  return result;
}

template <typename Writer>
std::string ToPem(Writer write) {
  const Owned<BIO> bio(Must(BIO_new(BIO_s_mem())));
  Must(write(bio.get()));
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

std::string ToPem(X509* certificate) {
  return ToPem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}

std::string ToPem(EVP_PKEY* key) {
  return ToPem([&](BIO* bio) {
    return PEM_write_bio_PKCS8PrivateKey(bio, key, nullptr, nullptr, 0, nullptr,
                                         nullptr);
  });
}

void AddExtension(X509* certificate, int nid, const std::string& value) {
  const Owned<X509_EXTENSION> extension(
      Must(X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str())));
  Must(X509_add_ext(certificate, extension.get(), -1));
}

Owned<X509> MakeCertificate(const std::string& name, EVP_PKEY* key,
                            X509* issuer, EVP_PKEY* issuer_key) {
  static long serial = 0;
  Owned<X509> certificate(Must(X509_new()));
  X509* const x = certificate.get();
  Must(X509_set_version(x, X509_VERSION_3));
  Must(ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial));
  constexpr long kDay = 24L * 3600;
  Must(X509_gmtime_adj(X509_getm_notBefore(x), -kDay));
  Must(X509_gmtime_adj(X509_getm_notAfter(x), kDay));
  Must(X509_NAME_add_entry_by_txt(
      X509_get_subject_name(x), "CN", MBSTRING_ASC,
      reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0));
  Must(X509_set_issuer_name(
      x, X509_get_subject_name(issuer == nullptr ? x : issuer)));
  Must(X509_set_pubkey(x, key));
  if (issuer == nullptr) {
    AddExtension(x, NID_basic_constraints, "critical,CA:TRUE");
  } else {
    const bool numeric = absl::ascii_isdigit(name[0]) || name[0] == ':';
    AddExtension(x, NID_subject_alt_name,
                 absl::StrCat(numeric ? "IP:" : "DNS:", name));
  }
  Must(X509_sign(x, issuer_key, EVP_sha256()));
  return certificate;
}

}  // namespace

struct Authority::Parts {
  Owned<EVP_PKEY> key;
  Owned<X509> certificate;
};

Authority::Authority(const std::string& name)
    : parts_(std::make_unique<Parts>()) {
  parts_->key.reset(Must(EVP_EC_gen("P-256")));
  parts_->certificate =
      MakeCertificate(name, parts_->key.get(), nullptr, parts_->key.get());
  certificate_ = ToPem(parts_->certificate.get());
}

Authority::~Authority() = default;

Identity Authority::Issue(const std::string& name) const {
  const Owned<EVP_PKEY> key(Must(EVP_EC_gen("P-256")));
  const Owned<X509> certificate = MakeCertificate(
      name, key.get(), parts_->certificate.get(), parts_->key.get());
  return {.certificate = ToPem(certificate.get()), .key = ToPem(key.get())};
}

CredentialFiles::CredentialFiles() {
  folder_ = std::filesystem::temp_directory_path() / "nd-credentials-XXXXXX";
  Must(mkdtemp(folder_.data()));
}

CredentialFiles::~CredentialFiles() { std::filesystem::remove_all(folder_); }

std::string CredentialFiles::Write(const std::string& name,
                                   const std::string& text) {
  std::string path = absl::StrCat(folder_, "/", ++made_, "-", name);
  Must(static_cast<bool>(std::ofstream(path) << text));
  return path;
}

Credentials CredentialFiles::Make(const std::string& ca,
                                  const Identity& identity) {
  Credentials credentials;
  const auto write = [this](const std::string& name, const std::string& text) {
    return text.empty() ? "" : Write(name, text);
  };
  credentials.ca_file = write("ca.pem", ca);
  credentials.certificate_file = write("certificate.pem", identity.certificate);
  credentials.key_file = write("key.pem", identity.key);
  return credentials;
}

}  // namespace nd::control
