// Where spools are kept: files that only this site can read (OPFS), or memory.

/**
 * The files of one spool.
 *
 * @typedef {object} Store
 * @property {"disk" | "memory"} kept
 * @property {number} size bytes of sound
 * @property {(bytes: Uint8Array<ArrayBuffer>) => void} append adds all of the sound or, if it
 *   throws, nothing
 * @property {(offset: number, length: number) => Uint8Array<ArrayBuffer>} read
 * @property {() => void} flush makes what was appended survive whatever happens
 * @property {() => Promise<(offset: number, length: number) => Blob>} slices sound that is read when
 *   it is needed
 * @property {() => Promise<number | null>} room bytes that it may still get, about; null if the
 *   browser does not tell
 * @property {() => string} journal all of it
 * @property {(text: string) => void} note adds to the journal, and flushes it
 * @property {() => void} close
 */

const FOLDER = "spools";
/** How long files may be busy: of a page that has just gone. */
const BUSY_S = 5;
const RETRY_MS = 100;
/** Memory for a spool where there are no files: 45 minutes of voice. */
const MEMORY_BYTES = 256 * 1024 * 1024;

/** Raised if another page has a spool. */
export class SpoolBusy extends Error {}

/**
 * Opens the files of a spool; in memory if there can be none and it is a new one.
 *
 * @param {string} id
 * @param {{ isNew?: boolean, patienceS?: number }} [options]
 * @returns {Promise<Store>}
 * @throws {SpoolBusy}
 * @throws {DOMException} NotFoundError if there is no such spool
 */
export async function openStore(id, { isNew = false, patienceS = BUSY_S } = {}) {
  const folders = await spoolFolders();
  if (!folders) {
    if (isNew) return memoryStore();
    throw new DOMException(`there is no spool ${id}`, "NotFoundError");
  }
  const unlock = await locked(id, patienceS);
  /** @type {FileSystemSyncAccessHandle[]} */
  const open = [];
  try {
    const folder = await folders.getDirectoryHandle(id, { create: isNew });
    const file = await folder.getFileHandle("sound", { create: isNew });
    const journalFile = await folder.getFileHandle("journal", { create: isNew });
    for (const one of [file, journalFile]) open.push(await accessed(one, patienceS));
    return diskStore(file, open[0], open[1], unlock);
  } catch (error) {
    for (const access of open) access.close();
    unlock();
    // as a browser does that has files, but not for this
    if (isNew && !(error instanceof SpoolBusy)) return memoryStore();
    throw error;
  }
}

/** @returns {Promise<string[]>} the spools that there are, the oldest first */
export async function listStores() {
  const folders = await spoolFolders();
  const ids = [];
  if (folders) for await (const id of folders.keys()) ids.push(id);
  return ids.sort();
}

/**
 * Removes the files of a spool that nobody has open.
 *
 * @param {string} id
 * @throws {SpoolBusy}
 */
export async function removeStore(id) {
  const folders = await spoolFolders();
  const unlock = await locked(id, BUSY_S);
  try {
    await folders?.removeEntry(id, { recursive: true });
  } finally {
    unlock();
  }
}

/** @returns {Promise<FileSystemDirectoryHandle | null>} null where a browser keeps no files */
async function spoolFolders() {
  try {
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle(FOLDER, { create: true });
  } catch {
    return null; // private windows, and pages without a secure address
  }
}

/**
 * Makes a spool this worker's own until the function that is returned is called, or the worker ends.
 *
 * @param {string} id
 * @param {number} patienceS
 * @returns {Promise<() => void>}
 */
function locked(id, patienceS) {
  return new Promise((resolve, reject) => {
    const busy = () => reject(new SpoolBusy(`another page has the spool ${id}`));
    navigator.locks
      .request(
        `gapless-spool-${id}`,
        patienceS ? { signal: AbortSignal.timeout(patienceS * 1000) } : { ifAvailable: true },
        (lock) => (lock ? new Promise((unlock) => resolve(() => unlock(undefined))) : busy()),
      )
      .catch(busy);
  });
}

/**
 * @param {FileSystemFileHandle} file
 * @param {number} patienceS
 */
async function accessed(file, patienceS) {
  const until = performance.now() + patienceS * 1000;
  for (;;) {
    try {
      return await file.createSyncAccessHandle();
    } catch (error) {
      const isBusy = error instanceof DOMException && error.name === "NoModificationAllowedError";
      if (!isBusy) throw error;
      // the lock of a page that has gone is free before its files are, and nothing tells when
      if (performance.now() >= until) throw new SpoolBusy("another page has the spool's files");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/**
 * @param {FileSystemFileHandle} file
 * @param {FileSystemSyncAccessHandle} sound
 * @param {FileSystemSyncAccessHandle} journal
 * @param {() => void} unlock
 * @returns {Store}
 */
function diskStore(file, sound, journal, unlock) {
  let size = sound.getSize();
  let noted = journal.getSize();
  /**
   * @param {FileSystemSyncAccessHandle} access
   * @param {Uint8Array<ArrayBuffer>} bytes
   * @param {number} at
   */
  const write = (access, bytes, at) => {
    let written = 0;
    try {
      written = access.write(bytes, { at });
    } finally {
      if (written < bytes.length) access.truncate(at);
    }
    if (written < bytes.length) throw new DOMException("the disk is full", "QuotaExceededError");
  };
  return {
    kept: "disk",
    get size() {
      return size;
    },
    append(bytes) {
      write(sound, bytes, size);
      size += bytes.length;
    },
    read(offset, length) {
      const bytes = new Uint8Array(length);
      let filled = 0;
      while (filled < length) {
        const got = sound.read(bytes.subarray(filled), { at: offset + filled });
        if (!got) throw new DOMException("the spool's file is shorter", "NotReadableError");
        filled += got;
      }
      return bytes;
    },
    flush: () => sound.flush(),
    async slices() {
      const whole = await file.getFile();
      return (offset, length) => whole.slice(offset, offset + length);
    },
    async room() {
      try {
        const { quota = 0, usage = 0 } = await navigator.storage.estimate();
        return Math.max(0, quota - usage);
      } catch {
        return null;
      }
    },
    journal() {
      const bytes = new Uint8Array(noted);
      journal.read(bytes, { at: 0 });
      return new TextDecoder().decode(bytes);
    },
    note(text) {
      const bytes = new TextEncoder().encode(text);
      write(journal, bytes, noted);
      noted += bytes.length;
      journal.flush();
    },
    close() {
      sound.close();
      journal.close();
      unlock();
    },
  };
}

/** @returns {Store} */
function memoryStore() {
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const chunks = [];
  /** @type {number[]} */
  const offsets = [];
  let size = 0;
  let journal = "";
  /**
   * @param {number} offset
   * @param {number} length
   */
  const read = (offset, length) => {
    const bytes = new Uint8Array(length);
    let filled = 0;
    let index = offsets.findLastIndex((start) => start <= offset);
    while (filled < length) {
      const from = offset + filled - offsets[index];
      const part = chunks[index++].subarray(from, from + length - filled);
      bytes.set(part, filled);
      filled += part.length;
    }
    return bytes;
  };
  return {
    kept: "memory",
    get size() {
      return size;
    },
    append(bytes) {
      if (size + bytes.length > MEMORY_BYTES)
        throw new DOMException("the memory for sound is full", "QuotaExceededError");
      offsets.push(size);
      chunks.push(bytes.slice());
      size += bytes.length;
    },
    read,
    flush() {},
    async slices() {
      return (offset, length) => new Blob([read(offset, length)]);
    },
    room: async () => MEMORY_BYTES - size,
    journal: () => journal,
    note(text) {
      journal += text;
    },
    close() {},
  };
}
