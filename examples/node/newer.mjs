// Newer license files that the service sent (docs/protocol.md, section 10): which are taken, and which file counts.

import { TokenError, licenseOf } from "./protocol.mjs";

/** What a newer file may cure: the service is asked for one before the program is refused. */
export const CURABLE = ["license-expired", "maintenance-over", "feature-not-licensed", "license-superseded"];
/** Refusals of a start that another file may not get. */
export const FILE_REFUSALS = [
  "license-invalid", "license-not-yet-valid", "license-expired", "license-superseded", "user-not-allowed",
  "host-not-allowed", "network-not-allowed",
];

/** The license in a JWS that renews the given one; null for any other text. */
export function newerLicense(token, issuerKeys, given) {
  try {
    const license = licenseOf(token, issuerKeys);
    const same = license.sub === given.sub && license.organization.id === given.organization.id;
    return same && license.serial > given.serial ? license : null;
  } catch (error) {
    if (error instanceof TokenError) return null;
    throw error;
  }
}

const isNewer = (one, other) => (one?.serial ?? -1) > (other?.serial ?? -1);
const newest = (one, other) => (isNewer(other, one) ? other : one);

/** Of two pairs {granted, pending} the newest of each; what is pending is newer than what was granted. */
function joined(one, other) {
  const granted = newest(one.granted, other.granted);
  const pending = newest(one.pending, other.pending);
  return { granted, pending: isNewer(pending, granted) ? pending : null };
}

/** The licenses {granted, pending} in texts that a private file has kept; null where one does not renew the given one. */
export function keptLicenses(texts, issuerKeys, given) {
  const license = (text) => newerLicense(text, issuerKeys, given);
  return joined({ granted: license(texts.granted), pending: null }, { granted: null, pending: license(texts.pending) });
}

/**
 * The files of one license: the given one; of those that were fetched, the newest with which a start was `granted`, and
 * a newer one that is `pending`.
 */
export class LicenseFiles {
  refused = new Set(); // serials of pending files whose start was refused in this run

  constructor(given, { granted, pending }) {
    Object.assign(this, { given, granted, pending });
  }

  get counting() {
    return this.granted ?? this.given;
  }

  /** A newer file to try, or null. */
  get candidate() {
    return this.pending && !this.refused.has(this.pending.serial) ? this.pending : null;
  }

  get newestSerial() {
    return newest(this.counting, this.pending).serial;
  }

  /** The claims of the file that counts, with the keys of all; its `exp` may be that of a file to try. */
  get terms() {
    const { service, salt } = this.given;
    const all = [this.given, this.granted, this.pending].filter(Boolean);
    const keys = new Map(all.flatMap((each) => [...each.keys]));
    return { ...this.counting, service, salt, keys, exp: Math.max(this.counting.exp, this.candidate?.exp ?? 0) };
  }

  /** The file for the next start. `refusal(file)` is the code of why a file does not cover the program, or null. */
  toStart(refusal) {
    const { candidate } = this;
    return candidate?.collect && refusal(candidate) === null ? candidate : this.counting;
  }

  /** A newer file was fetched. */
  take(license) {
    this.pending = license;
  }

  /** A start with this file was granted. */
  grant(license) {
    if (license !== this.counting) Object.assign(this, joined(this, { granted: license, pending: null }));
  }

  /** What the private file is to keep, as texts, beside the fetched files that another program has kept; or null. */
  toKeep(kept) {
    const { granted, pending } = joined(this, kept);
    return granted || pending ? { granted: granted?.token ?? null, pending: pending?.token ?? null } : null;
  }
}
