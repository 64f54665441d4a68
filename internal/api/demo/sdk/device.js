// Where a client keeps what must outlive a reload: its device id and the ticket of its last login.
const deviceKey = "rollcall.device";
/** How long another document may take to let go of its device id: on a reload, the one before. */
const claimTimeoutMS = 500;
/**
 * A device id, and tickets that are bound to it. Storage that fails (full, forbidden by the browser) is as
 * good as none.
 */
export class Device {
    #id;
    #storage;
    #ticketKey;
    #chosen; // by the app: nobody doubts it
    constructor(storage, login, id) {
        this.#storage = storage;
        this.#ticketKey = `rollcall.ticket.${login}`;
        this.#chosen = id !== undefined;
        this.#id = id ?? this.#get(deviceKey) ?? "";
        if (!this.#id) {
            this.#anew();
        }
    }
    get id() {
        return this.#id;
    }
    /** The ticket that was kept, "" if there is none for this device. */
    get ticket() {
        const kept = this.#get(this.#ticketKey) ?? "";
        const cut = kept.lastIndexOf(" ");
        return cut >= 0 && kept.slice(0, cut) === this.#id ? kept.slice(cut + 1) : "";
    }
    set ticket(ticket) {
        if (ticket) {
            this.#set(this.#ticketKey, `${this.#id} ${ticket}`);
        }
        else {
            this.#remove(this.#ticketKey);
        }
    }
    /**
     * Makes the device id this tab's own. Browsers copy the session storage into a tab that is duplicated or
     * opened by another: two tabs with one device id would push each other out. The copy gets a new one.
     * False if that was so.
     */
    async claim(locks) {
        if (this.#chosen || !locks || (await claimed(locks, this.#id))) {
            return true;
        }
        this.#remove(this.#ticketKey);
        this.#anew();
        await claimed(locks, this.#id);
        return false;
    }
    #anew() {
        this.#id = randomID();
        this.#set(deviceKey, this.#id);
    }
    #get(key) {
        try {
            return this.#storage?.getItem(key) ?? null;
        }
        catch {
            return null;
        }
    }
    #set(key, value) {
        try {
            this.#storage?.setItem(key, value);
        }
        catch {
            // As good as no storage.
        }
    }
    #remove(key) {
        try {
            this.#storage?.removeItem(key);
        }
        catch {
            // As good as no storage.
        }
    }
}
/** The claims of this tab, which last as long as the tab: clients of several users share its device id. */
const claims = new Map();
function claimed(locks, id) {
    let claim = claims.get(id);
    if (!claim) {
        claim = new Promise((resolve) => {
            const hold = () => {
                resolve(true);
                return new Promise(() => { }); // until the tab is gone
            };
            locks.request(`${deviceKey}.${id}`, { signal: AbortSignal.timeout(claimTimeoutMS) }, hold).catch((e) => {
                // Locks that are forbidden here (an opaque origin) say nothing about other tabs.
                resolve(!(e instanceof DOMException && (e.name === "TimeoutError" || e.name === "AbortError")));
            });
        });
        claims.set(id, claim);
    }
    return claim;
}
/** 128 random bits. crypto.randomUUID is not there on plain http. */
function randomID() {
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}
/** The tab's session storage; null where there is none or it is forbidden. */
export function tabStorage() {
    try {
        return globalThis.sessionStorage ?? null;
    }
    catch {
        return null;
    }
}
/**
 * The device id of this tab, which every client in it has by default: for apps that want to know it before, to name the
 * device after it.
 */
export async function tabDeviceID() {
    const device = new Device(tabStorage(), "", undefined);
    await device.claim(globalThis.navigator?.locks);
    return device.id;
}
