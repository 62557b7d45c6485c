// Firefox without geckodriver: by the protocol that the driver itself would speak.

import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as elapse } from 'node:timers/promises';
import { Marionette } from './marionette.mjs';
import { Processes } from './processes.mjs';

const startMs = 180_000;
const pollMs = 20;

/** No pages of its own, no questions after a crash, nothing from the network. */
const preferences = {
  'app.normandy.enabled': false,
  'app.update.disabledForTesting': true,
  'browser.aboutwelcome.enabled': false,
  'browser.pagethumbnails.capturing_disabled': true,
  'browser.safebrowsing.downloads.enabled': false,
  'browser.safebrowsing.malware.enabled': false,
  'browser.safebrowsing.phishing.enabled': false,
  'browser.sessionstore.resume_from_crash': false,
  'browser.shell.checkDefaultBrowser': false,
  'browser.startup.homepage_override.mstone': 'ignore',
  'browser.startup.page': 0,
  'browser.tabs.closeWindowWithLastTab': false,
  'browser.tabs.unloadOnLowMemory': false,
  'browser.topsites.contile.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'dom.ipc.processPrelaunch.enabled': false,
  'extensions.getAddons.cache.enabled': false,
  'extensions.systemAddon.update.enabled': false,
  'extensions.update.enabled': false,
  'marionette.port': 0,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'services.settings.server': 'data:,',
  'toolkit.startup.max_resumed_crashes': -1,
  'toolkit.telemetry.server': 'data:,',
};

export class Firefox {
  static name = 'firefox';
  static parts = { renderer: / -contentproc .* tab *$/ };
  #program;
  #processes;
  #marionette;
  #tabs = new Map();
  #blank;
  version = '';

  constructor(program) {
    this.#program = program;
  }

  async start(profile, urls) {
    const portFile = join(profile, 'MarionetteActivePort');
    rmSync(portFile, { force: true });
    rmSync(join(profile, '.parentlock'), { force: true });
    writeFileSync(join(profile, 'user.js'), Object.entries(preferences).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`).join(''));
    const env = { MOZ_CRASHREPORTER_DISABLE: '1', MOZ_DISABLE_AUTO_SAFE_MODE: '1', HOME: profile };
    this.#processes = new Processes(this.#program, ['--headless', '--marionette', '--remote-allow-system-access', '--no-remote', '--profile', profile], { env });
    for (const deadline = Date.now() + startMs; !existsSync(portFile) || readFileSync(portFile, 'utf8') === ''; await elapse(pollMs)) {
      if (Date.now() > deadline) throw new Error(`Firefox does not start: ${this.#processes.output}`);
    }
    this.#marionette = await new Marionette().connect(Number(readFileSync(portFile, 'utf8')));
    const { capabilities } = await this.#marionette.call('WebDriver:NewSession', { capabilities: { alwaysMatch: { pageLoadStrategy: 'none', unhandledPromptBehavior: 'ignore' } } });
    this.version = `Firefox/${capabilities.browserVersion}`;
    this.#tabs.clear();
    // The first tab stays blank: without one the browser would end.
    this.#blank = await this.#marionette.call('WebDriver:GetWindowHandle').then(({ value }) => value);
    for (const url of urls) await this.open(url);
  }

  async open(url) {
    // From the blank tab: another one may be gone.
    await this.#marionette.call('WebDriver:SwitchToWindow', { handle: this.#blank });
    const { handle } = await this.#marionette.call('WebDriver:NewWindow', { type: 'tab', focus: true });
    this.#tabs.set(handle, url);
    await this.#marionette.call('WebDriver:SwitchToWindow', { handle });
    await this.#marionette.call('WebDriver:Navigate', { url });
  }

  /** What a script gives that runs in the newest tab. */
  async evaluate(script) {
    const { value } = await this.#marionette.call('WebDriver:ExecuteScript', { script, args: [] });
    return value;
  }

  /** Closes the tabs whose address has this in it. */
  async close(part) {
    for (const [handle, url] of this.#tabs) {
      if (!url.includes(part)) continue;
      this.#tabs.delete(handle);
      // One whose process is gone may be gone with it.
      await this.#marionette.call('WebDriver:SwitchToWindow', { handle }).then(() => this.#marionette.call('WebDriver:CloseWindow')).catch(() => {});
    }
  }

  killPart(part, random) {
    return this.#processes.killOne(Firefox.parts[part], random);
  }

  async kill() {
    await this.#processes.kill();
    this.#marionette?.close();
  }
}
