// UserSigs (TLSSigAPIv2), made where nobody should make them: in the page. A UserSig is made by an app's backend, which
// alone knows the key; the key of `rollcall serve --dev` is public, so that this page can show how it is done.

const utf8 = new TextEncoder();

/**
 * A UserSig of the user, valid from timeS (Unix seconds) for expireS seconds.
 *
 * @param {{sdkAppID: number, key: string, userID: string, timeS: number, expireS: number}} of
 * @returns {Promise<string>}
 */
export async function userSig({ sdkAppID, key, userID, timeS, expireS }) {
  const text = `TLS.identifier:${userID}\nTLS.sdkappid:${sdkAppID}\nTLS.time:${timeS}\nTLS.expire:${expireS}\n`;
  const document = JSON.stringify({
    "TLS.ver": "2.0",
    "TLS.identifier": userID,
    "TLS.sdkappid": sdkAppID,
    "TLS.expire": expireS,
    "TLS.time": timeS,
    "TLS.sig": base64(await hmac(key, text)),
  });
  const letters = /** @type {Record<string, string>} */ ({ "+": "*", "/": "-", "=": "_" });
  return base64(await zlib(utf8.encode(document))).replace(/[+/=]/g, (c) => letters[c] ?? c);
}

/** @param {string} key @param {string} text */
async function hmac(key, text) {
  const secret = await crypto.subtle.importKey("raw", utf8.encode(key), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", secret, utf8.encode(text)));
}

/** What CompressionStream calls "deflate" is zlib (RFC 1950). @param {Uint8Array<ArrayBuffer>} bytes */
async function zlib(bytes) {
  const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(packed).arrayBuffer());
}

/** @param {Uint8Array} bytes */
function base64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}
